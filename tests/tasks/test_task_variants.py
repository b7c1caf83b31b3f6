"""Variants of the tasks: other encodings of Forrelation, more training items; what marks them."""

import numpy as np
import pytest

from qablate.errors import QablateError
from qablate.study import DatasetSpec
from qablate.tasks import generate, load_dataset, make_dataset, split_of
from qablate.tasks.forrelation import phi
from qablate.tasks.solvers import (
    RIDGE_STRENGTHS,
    cell_means,
    decode_steps,
    degree_marks,
    plug_in_phi,
    read_cells,
    ridge,
    seen_tables,
    solver_accuracies,
)


def spec(length=50, n_samples=300, seed=3, **changed):
    return DatasetSpec("forrelation", length, seed, n_samples, tuple(sorted(changed.items())))


@pytest.mark.parametrize("n_bits", [2, 3, 6])
def test_one_hot_steps_show_the_same_entries(n_bits):
    base, wide = (generate(spec(n_bits=n_bits, **more)) for more in ({}, {"encoding": "onehot"}))
    size = 1 << n_bits
    assert wide.sequences.shape == (300, 50, 2 * size) and wide.spec.n_channels == 2 * size
    assert set(np.unique(wide.sequences)) == {-1, 0, 1} and (np.abs(wide.sequences).sum(axis=2) == 2).all()
    for found, expected in zip(decode_steps(wide.sequences, n_bits), decode_steps(base.sequences, n_bits), strict=True):
        assert np.array_equal(found, expected)
    item, step = 7, 11
    address = int(sum(base.sequences[item, step, bit] * 2**bit for bit in range(n_bits)))
    assert wide.sequences[item, step, address] == base.sequences[item, step, n_bits]
    assert np.array_equal(wide.targets, base.targets)
    assert np.array_equal(plug_in_phi(wide.sequences, n_bits), plug_in_phi(base.sequences, n_bits))


@pytest.mark.parametrize("n_bits", [2, 6])
def test_sorted_tables_are_the_tables(n_bits):
    size = 1 << n_bits
    base, sorted_ = (generate(spec(size, n_bits=n_bits, **more)) for more in ({}, {"order": "sorted"}))
    assert sorted_.sequences.shape == (300, size, 2) and sorted_.spec.n_channels == 2
    assert np.array_equal(sorted_.sequences.transpose(0, 2, 1), base.extras["tables"])
    assert np.array_equal(seen_tables(sorted_.sequences, n_bits), base.extras["tables"])
    assert np.array_equal(plug_in_phi(sorted_.sequences, n_bits), phi(base.extras["tables"]))


@pytest.mark.parametrize("changed", [{"encoding": "onehot"}, {"order": "sorted"}, {"n_train": 500}])
def test_files_hold_the_compact_form_and_are_expanded_when_loaded(tmp_path, changed):
    wanted = spec(64, **changed)
    path = wanted.path(tmp_path)
    made, loaded = make_dataset(wanted, path), load_dataset(path, wanted)
    assert loaded.sha256 == made.sha256
    for name, array in made.arrays.items():
        assert np.array_equal(loaded.arrays[name], array) and loaded.arrays[name].dtype == array.dtype
    assert path.stat().st_size < 64 * wanted.n_items * 14 * 4 + wanted.n_items * 150 + 5000


def test_a_damaged_one_hot_file_is_an_error_of_one_line(tmp_path):
    wanted = spec(encoding="onehot")
    path = wanted.path(tmp_path)
    make_dataset(wanted, path)
    arrays = dict(np.load(path))
    for bad in (np.float32("nan"), np.float32(1e9), np.float32(-3)):
        np.savez(path, **{**arrays, "sequences": np.full_like(arrays["sequences"], bad)})
        with pytest.raises(QablateError, match="holds data with hash"):
            load_dataset(path, wanted)


@pytest.mark.parametrize(("task", "length"), [("forrelation", 50), ("adding_problem", 40), ("selective_copy", 40)])
def test_more_training_items_leave_the_others_as_they_are(task, length):
    base = DatasetSpec(task, length, 5, 200)
    more = DatasetSpec(task, length, 5, 200, (("n_train", 700),))
    few, many = generate(base), generate(more)
    assert len(many.sequences) == more.n_items == 740 and more.split_sizes == (700, 20, 20)
    assert more.split_id == "perm-700-20-20"
    assert np.array_equal(many.sequences[:200], few.sequences) and np.array_equal(many.targets[:200], few.targets)
    old, new = split_of(base), split_of(more)
    assert np.array_equal(new.val, old.val) and np.array_equal(new.test, old.test)
    assert np.array_equal(new.train[:160], old.train) and sorted(new.permutation) == list(range(740))
    assert more.variant.startswith("n200-ntrain700-") and base.split_sizes == (160, 20, 20)


def test_degree_marks_rise_from_chance_to_the_solver():
    """2 bits: 16 products of equal weight. All of them are the table products, rotated."""
    dataset = generate(spec(25, 3000, n_bits=2))
    marks = degree_marks(dataset, range(5))
    solvers = solver_accuracies(dataset)
    assert marks[0] < 0.75 and marks[4] == pytest.approx(solvers["table_ridge"], abs=0.03)
    assert marks[4] > 0.9
    assert marks[4] > marks[2] > marks[0] - 0.02
    few = generate(spec(25, 3000, n_bits=2, n_train=5000))
    assert degree_marks(few, [4], n_train=2400) == {4: marks[4]}


def test_a_ridge_between_items_is_the_ridge_between_features():
    generator = np.random.default_rng(4)
    features, targets = generator.normal(size=(60, 90)), generator.normal(size=(60, 2))
    train, val, rest = slice(0, 30), slice(30, 45), slice(45, 60)
    given = np.pad(features, ((0, 0), (0, 1)), constant_values=7)    # what is constant tells nothing
    found = ridge((given[train], targets[train]), (given[val], targets[val]), given[rest])
    x = (features - features[train].mean(0)) / features[train].std(0)
    offset = targets[train].mean(0)
    fits = [np.linalg.solve(x[train].T @ x[train] + s * 30 * np.eye(90), x[train].T @ (targets[train] - offset))
            for s in RIDGE_STRENGTHS]
    best = min(fits, key=lambda fit: np.mean((x[val] @ fit + offset - targets[val]) ** 2))
    assert np.abs(found - x[rest] @ best - offset).max() < 1e-10


def test_the_fixed_rule_on_exact_counts_gives_the_cell_means():
    dataset = generate(DatasetSpec("selective_copy", 100, 9, 200))
    padded = np.pad(dataset.sequences, ((0, 0), (0, 28), (0, 0))).reshape(200, 4, 32, 2)
    counts, sums = padded[..., 1].sum(axis=2), padded.prod(axis=3, dtype=np.float64).sum(axis=2)
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, counts.shape)
    expected = cell_means(dataset.sequences, 32, 8)
    assert np.abs(read_cells(counts + noise, sums, 8) - expected).max() < 1e-6
    assert (read_cells(counts * 0, sums, 8) == 0.5).all()
