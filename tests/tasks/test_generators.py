"""The vectorised generators against plain loops that follow the description word by word, and their isolation."""

import random
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qablate.errors import QablateError
from qablate.study import DatasetSpec
from qablate.tasks import generate
from qablate.tasks.draws import RandomWords, permutation, permutation_heads
from qablate.tasks.forrelation import forrelation, phi, walsh_hadamard


def drawn(task, length, seed, n_samples, **changed):
    return generate(DatasetSpec(task, length, seed, n_samples, tuple(sorted(changed.items()))))


def plain_adding(n_samples, length, seed, placement):
    """Adding with torch's own calls, one item after the other, as the published code made it."""
    generator, items = torch.Generator().manual_seed(seed), []
    for _ in range(n_samples):
        values = torch.rand(length, generator=generator)
        if placement == "uniform":
            first, second = torch.randperm(length, generator=generator)[:2].tolist()
        elif placement == "halves":
            first = int(torch.randint(0, length // 2, (1,), generator=generator))
            second = int(torch.randint(length // 2, length, (1,), generator=generator))
        else:
            tenth = max(1, length // 10)
            first = int(torch.randint(0, tenth, (1,), generator=generator))
            second = int(torch.randint(length - tenth, length, (1,), generator=generator))
        items.append((values, sorted((first, second)), (values[first] + values[second]).item()))
    return items


@pytest.mark.parametrize("placement", ["extremes", "halves", "uniform"])
@pytest.mark.parametrize("length", [2, 3, 15, 100])
def test_adding_equals_a_plain_loop(length, placement):
    arrays = drawn("adding_problem", length, 11, 60, placement=placement)
    for i, (values, positions, target) in enumerate(plain_adding(60, length, 11, placement)):
        assert arrays.sequences[i, :, 0].tolist() == values.tolist()
        assert np.nonzero(arrays.sequences[i, :, 1])[0].tolist() == positions
        assert arrays.extras["marker_indices"][i].tolist() == positions
        assert arrays.targets[i, 0] == target


@pytest.mark.parametrize(("length", "n_markers"), [(1, 1), (8, 8), (9, 8), (50, 1), (100, 8)])
def test_selective_copy_equals_a_plain_loop(length, n_markers):
    arrays, generator = drawn("selective_copy", length, 12, 60, n_markers=n_markers), torch.Generator().manual_seed(12)
    for i in range(60):
        values = torch.rand(length, generator=generator)
        positions = torch.randperm(length, generator=generator)[:n_markers].sort().values
        assert arrays.sequences[i, :, 0].tolist() == values.tolist()
        assert arrays.extras["marker_indices"][i].tolist() == positions.tolist()
        assert arrays.targets[i].tolist() == values[positions].tolist()


def test_markers_of_fewer_are_among_those_of_more():
    few, many = (drawn("selective_copy", 40, 3, 50, n_markers=n_markers) for n_markers in (3, 8))
    assert np.array_equal(few.sequences[:, :, 0], many.sequences[:, :, 0])
    assert (few.sequences[:, :, 1] <= many.sequences[:, :, 1]).all()


def direct_phi(f, g):
    """The definition: a double sum over all pairs of addresses."""
    size = len(f)
    total = sum(f[x] * (-1) ** (x & y).bit_count() * g[y] for x in range(size) for y in range(size))
    return int(total), total / size**1.5


def scalar_forrelation_item(generator, label, length, n_bits):
    """One item with scalar draws and the definition of Phi."""
    size = 1 << n_bits

    def table():
        return [generator.standard_normal() for _ in range(size)]

    def sign(values):
        return [1 if value >= 0 else -1 for value in values]

    if label:
        u = table()
        transformed = [sum((-1) ** (x & y).bit_count() * u[x] for x in range(size)) / sqrt(size) for y in range(size)]
        f, g = sign(u), sign(transformed)
    else:
        for _ in range(100):
            f, g = sign(table()), sign(table())
            if abs(direct_phi(f, g)[1]) < 0.15:
                break
    steps = []
    for _ in range(length):
        x, y = int(generator.integers(0, size)), int(generator.integers(0, size))
        bits = [[address >> bit & 1 for bit in range(n_bits)] for address in (x, y)]
        steps.append([*bits[0], f[x], *bits[1], g[y]])
    return steps, f, g


@pytest.mark.parametrize(("n_bits", "length"), [(2, 1), (3, 7), (4, 20), (5, 9)])
def test_forrelation_equals_scalar_draws(n_bits, length):
    arrays, generator = drawn("forrelation", length, 13, 40, n_bits=n_bits), np.random.default_rng(13)
    assert arrays.targets.tolist() == [1, 0] * 20
    for i, label in enumerate(arrays.targets):
        steps, f, g = scalar_forrelation_item(generator, label, length, n_bits)
        assert arrays.sequences[i].tolist() == steps
        assert arrays.extras["tables"][i].tolist() == [f, g]
        assert arrays.extras["phi_numerators"][i] == direct_phi(f, g)[0]


@given(n_bits=st.integers(0, 5), seed=st.integers(0, 1000))
def test_transforming_twice_multiplies_by_the_size(n_bits, seed):
    values = np.random.default_rng(seed).integers(-9, 9, size=(3, 1 << n_bits))
    assert np.array_equal(walsh_hadamard(walsh_hadamard(values)), values << n_bits)


def test_the_last_pair_is_kept_after_a_hundred_tries(monkeypatch):
    monkeypatch.setattr("qablate.tasks.forrelation.MAX_TRIES", 1)
    spec = DatasetSpec("forrelation", 1, 5, 2, (("n_bits", 2), ("reject_abs_phi", "0.0")))
    kept = phi(forrelation(spec).extras["tables"])
    generator = np.random.default_rng(5)
    generator.standard_normal(4), generator.integers(0, 4, size=(1, 2))
    pair = np.where(generator.standard_normal((2, 4)) >= 0, 1, -1)
    assert kept[1] == direct_phi(*pair.tolist())[1]


@pytest.mark.parametrize("task", ["adding_problem", "selective_copy", "forrelation"])
def test_generating_leaves_global_random_states_alone(task):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = generate(DatasetSpec(task, 20, 1, 40))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert generate(DatasetSpec(task, 20, 1, 40)).sha256 == first.sha256


def test_any_changed_identity_parameter_changes_the_hash_and_the_path(tmp_path):
    specs = [
        DatasetSpec("selective_copy", 20, 1, 40),
        DatasetSpec("selective_copy", 21, 1, 40),
        DatasetSpec("selective_copy", 20, 2, 40),
        DatasetSpec("selective_copy", 20, 1, 41),
        DatasetSpec("selective_copy", 20, 1, 40, (("n_markers", 7),)),
        DatasetSpec("adding_problem", 20, 1, 40),
        DatasetSpec("adding_problem", 20, 1, 40, (("placement", "halves"),)),
        DatasetSpec("forrelation", 20, 1, 40),
        DatasetSpec("forrelation", 20, 1, 40, (("n_bits", 5),)),
    ]
    assert len({generate(spec).sha256 for spec in specs}) == len(specs)
    assert len({spec.path(tmp_path) for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DatasetSpec("selective_copy", 6, 1), "length 6 is shorter than its 8 markers"),
        (DatasetSpec("adding_problem", 1, 1), "length 1 is shorter than its 2 markers"),
        (DatasetSpec("selective_copy", 10**9, 1, 10**9), "1000000000 items do not fit the memory"),
        (DatasetSpec("forrelation", 0, 1), "length 0 is shorter than 1 step"),
        (DatasetSpec("forrelation", 5, -1), "seed -1 is outside"),
        (DatasetSpec("forrelation", 5, 2**32), "seed 4294967296 is outside"),
        (DatasetSpec("forrelation", 5, 1, 0), "n_samples 0 is below 1"),
        (DatasetSpec("forrelation", 5, 1, 9, (("n_bits", 11),)), "n_bits 11 is outside 2..10"),
        (DatasetSpec("forrelation", 5, 1, 9, (("order", "sorted"),)), "table of 64 entries has length 64, not 5"),
        (DatasetSpec("forrelation", 5, 1, 9, (("encoding", "bits2"),)), "encoding 'bits2' is not one of bits, onehot"),
        (DatasetSpec("forrelation", 64, 1, 9, (("encoding", "onehot"), ("order", "sorted"))), "no addresses to encode"),
        (DatasetSpec("forrelation", 50, 1, 300, (("n_train", 100),)), "n_train 100 is below the 240 training items"),
        (DatasetSpec("forrelation", 5, 1, 9, (("n_bit", 5),)), "unknown parameter 'n_bit', known are .*, n_train"),
        (DatasetSpec("adding_problem", 5, 1, 9, (("placement", "middle"),)), "placement 'middle' is not one of"),
        (DatasetSpec("adding_problem", 5, 1, 9, (("n_markers", 3),)), "unknown parameter 'n_markers'"),
    ],
)
def test_what_cannot_be_made_is_one_line(spec, message):
    with pytest.raises(QablateError, match=message) as caught:
        generate(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(spec.task)


@given(length=st.integers(1, 40), count=st.integers(1, 40), n=st.integers(0, 5), seed=st.integers(0, 1000))
def test_permutation_heads_are_the_heads_of_permutations(length, count, n, seed):
    count = min(count, length)
    words = RandomWords(seed).take(n, length - 1)
    expected = [permutation(row)[:count].tolist() for row in words]
    assert permutation_heads(words, count).tolist() == expected
