"""Leak checks T1-T8 and T12: they pass on the published datasets and fail on datasets made wrong on purpose."""

import dataclasses

import numpy as np
import pytest

from qablate.study import DatasetSpec
from qablate.tasks import Dataset, checks, generate
from qablate.tasks.checks import check_dataset
from qablate.tasks.dataset import Check
from qablate.tasks.forrelation import encode_steps

ADDING, SELECTIVE = DatasetSpec("adding_problem", 100, 2024), DatasetSpec("selective_copy", 100, 2025)
FORRELATION = DatasetSpec("forrelation", 50, 2026)
PUBLISHED = [
    *(DatasetSpec("forrelation", length, seed) for length in (50, 100, 200) for seed in (2024, 2025, 2026)),
    *(DatasetSpec(task, length, 2024) for task in ("adding_problem", "selective_copy") for length in (100, 200, 500)),
    *(DatasetSpec(task, 100, seed) for task in ("adding_problem", "selective_copy") for seed in (2025, 2026)),
    *(pytest.param(DatasetSpec(task, 1000, seed), marks=pytest.mark.full, id=f"{task}-L1000-{seed}")
      for task in ("adding_problem", "selective_copy") for seed in (2024, 2025, 2026)),
]


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: f"{spec.task}-L{spec.length}-{spec.seed}")
def test_published_datasets_pass(spec):
    found = check_dataset(generate(spec))
    assert len(found) == (9 if spec.task == "forrelation" else 6)
    assert [check for check in found if not check.passed] == []


@pytest.mark.parametrize(
    "spec",
    [
        DatasetSpec("adding_problem", 100, 1, 5000, (("placement", "halves"),)),
        DatasetSpec("adding_problem", 100, 1, 5000, (("placement", "uniform"),)),
        DatasetSpec("adding_problem", 24, 1, 100),
        DatasetSpec("selective_copy", 24, 1, 100, (("n_markers", 3),)),
        DatasetSpec("forrelation", 16, 1, 100, (("n_bits", 4),)),
        DatasetSpec("forrelation", 16, 1, 100),
        DatasetSpec("forrelation", 50, 3, 2000, (("encoding", "onehot"), ("n_bits", 3))),
        DatasetSpec("forrelation", 64, 3, 2000, (("order", "sorted"),)),
        DatasetSpec("forrelation", 50, 3, 1000, (("n_train", 2000),)),
    ],
)
def test_other_datasets_pass_with_bounds_of_their_size(spec):
    assert [check for check in check_dataset(generate(spec)) if not check.passed] == []


def spoilt(spec, **changes):
    """The dataset of `spec` after `change(array, arrays)` has spoilt copies of the named arrays."""
    dataset = generate(spec)
    arrays = {name: array.copy() for name, array in dataset.arrays.items()}
    for name, change in changes.items():
        change(arrays[name], arrays)
    return Dataset(spec, arrays.pop("sequences"), arrays.pop("targets"), arrays)


def put(place, value):
    """A change that puts a value, or adds it where it is a function of what stands there."""

    def change(array, arrays):
        array[place] = value(array[place]) if callable(value) else value

    return change


def spoil_markers(sequences, arrays):
    """A missing marker, a surplus one, a soft one, in three items."""
    first = arrays["marker_indices"][:, 0]
    sequences[0, first[0], 1] = 0
    sequences[1, 50, 1] = 1 - sequences[1, 50, 1]
    sequences[2, first[2], 1] = 0.5


def move_marker(sequences, arrays):
    sequences[0, arrays["marker_indices"][0, 0], 1] = 0
    sequences[0, 50, 1] = 1


@pytest.mark.parametrize("length", [50, 100])
def test_t5_negative_control_the_leaky_generator_fails_t4(length):
    """What the earlier published generator did: class 1 has an f that is -1 but at one address."""
    generator, spec = np.random.default_rng(1), DatasetSpec("forrelation", length, 2024)
    labels = (np.arange(5000) % 2 == 0).astype(np.int64)
    tables = generator.choice(np.array([-1, 1], dtype=np.int8), size=(5000, 2, 64))
    tables[labels == 1, 0] = -1
    tables[labels == 1, 0, 0] = 1
    addresses = generator.integers(0, 64, size=(5000, length, 2))
    values = np.take_along_axis(tables, addresses.transpose(0, 2, 1), axis=2).transpose(0, 2, 1)
    check = checks.marginal_ridge(Dataset(spec, encode_steps(addresses, values, 6), labels, {"tables": tables}))
    assert check.value > 0.95
    assert not check.passed


@pytest.mark.parametrize("changes", [{"length": 49}, {"changed": (("n_bits", 5),)}, {"n_samples": 400}])
def test_t6_is_left_out_where_no_bound_is_known(changes):
    assert checks.plug_in_accuracy(generate(dataclasses.replace(FORRELATION, **changes))) is None


def leak(sequences, arrays):
    sequences[:, 50:60, 0] = arrays["targets"][:, :1] / 2


def swap_tables(tables, arrays):
    tables[[0, 1]] = tables[[1, 0]]


@pytest.mark.parametrize(
    ("check", "spec", "changes", "value"),
    [
        *((check, spec, {name: change}, value) for spec in (ADDING, SELECTIVE) for check, name, change, value in (
            (checks.target_from_input, "targets", put((17, 0), lambda value: value + np.float32(1e-6)), 1),
            (checks.target_from_input, "marker_indices", put(([4, 5], 0), lambda value: value + 1), 2),
            (checks.target_from_input, "sequences", spoil_markers, None),
            (checks.marker_counts, "sequences", spoil_markers, 3),
        )),
        (checks.mean_correlation, ADDING, {"sequences": leak}, None),
        (checks.unmarked_ridge, ADDING, {"sequences": leak}, pytest.approx(1, abs=0.1)),
        (checks.marker_counts, ADDING, {"sequences": move_marker}, 1),
        (checks.plug_in_accuracy, FORRELATION, {"targets": lambda labels, _: np.random.default_rng(0).shuffle(labels)},
         pytest.approx(0.5, abs=0.1)),
        (checks.phi_of_class_zero, FORRELATION, {"tables": swap_tables}, None),
        (checks.phi_of_class_one, FORRELATION, {"tables": swap_tables}, None),
        (checks.steps_from_tables, FORRELATION, {"tables": swap_tables}, None),
        (checks.steps_from_tables, FORRELATION, {"sequences": put((3, 7, 6), lambda value: -value)}, 1),
        (checks.duplicates, ADDING, {"sequences": lambda array, _: array.__setitem__(9, array[4000])}, 1),
        (checks.alternating_labels, FORRELATION, {"targets": lambda labels, _: labels.sort()}, 4998),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "task", None),
)
def test_each_check_sees_what_it_is_for(check, spec, changes, value):
    found = check(spoilt(spec, **changes))
    assert not found.passed
    assert value is None or found.value == value


def test_t8_and_t12_see_a_wrong_split(monkeypatch):
    split, dataset = checks.split_of(FORRELATION), generate(FORRELATION)
    overlapping = dataclasses.replace(split, test=np.append(split.test[1:], split.train[0]))
    monkeypatch.setattr(checks, "split_of", lambda spec: overlapping)
    assert checks.split_faults(dataset).value == 2
    by_class = dataclasses.replace(split, train=split.train[np.argsort(split.train % 2, kind="stable")])
    monkeypatch.setattr(checks, "split_of", lambda spec: by_class)
    assert checks.one_class_batches(dataset).value > 100


@pytest.mark.parametrize(("low", "high", "bound"), [
    (0, 0, "= 0"), (-np.inf, 0.13, "<= 0.13"), (0.985, np.inf, ">= 0.985"), (0.45, 0.55, "0.45 to 0.55")])
def test_bounds_in_words(low, high, bound):
    assert Check("name", np.nan, low, high).bound == bound and not Check("name", np.nan, low, high).passed
