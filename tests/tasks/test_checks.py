"""Leak checks T1-T8 and T12: they pass on the published datasets and fail on datasets made wrong on purpose."""

import dataclasses
import math

import numpy as np
import pytest

from qablate.study import DatasetSpec
from qablate.tasks import Dataset, checks, generate
from qablate.tasks.checks import check_dataset
from qablate.tasks.dataset import Check

ADDING, SELECTIVE = DatasetSpec("adding_problem", 100, 2024), DatasetSpec("selective_copy", 100, 2025)
FORRELATION = DatasetSpec("forrelation", 50, 2026)
PUBLISHED = [
    *(DatasetSpec("forrelation", length, seed) for length in (50, 100, 200) for seed in (2024, 2025, 2026)),
    *(DatasetSpec(task, length, 2024) for task in ("adding_problem", "selective_copy") for length in (100, 200, 500)),
    *(DatasetSpec(task, 100, seed) for task in ("adding_problem", "selective_copy") for seed in (2025, 2026)),
]


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: f"{spec.task}-L{spec.length}-{spec.seed}")
def test_published_datasets_pass(spec):
    found = check_dataset(generate(spec))
    assert len(found) == (9 if spec.task == "forrelation" else 6)
    assert [check for check in found if not check.passed] == []


@pytest.mark.full
@pytest.mark.parametrize("task", ["adding_problem", "selective_copy"])
@pytest.mark.parametrize("length", [200, 500, 1000])
@pytest.mark.parametrize("seed", [2024, 2025, 2026])
def test_longer_published_datasets_pass(task, length, seed):
    assert all(check.passed for check in check_dataset(generate(DatasetSpec(task, length, seed))))


@pytest.mark.parametrize(
    "spec",
    [
        DatasetSpec("adding_problem", 100, 1, 5000, (("placement", "halves"),)),
        DatasetSpec("adding_problem", 100, 1, 5000, (("placement", "uniform"),)),
        DatasetSpec("adding_problem", 24, 1, 100),
        DatasetSpec("selective_copy", 24, 1, 100, (("n_markers", 3),)),
        DatasetSpec("forrelation", 16, 1, 100, (("n_bits", 4),)),
        DatasetSpec("forrelation", 16, 1, 100),
    ],
)
def test_other_datasets_pass_with_bounds_of_their_size(spec):
    assert [check for check in check_dataset(generate(spec)) if not check.passed] == []


def changed(spec, change):
    """The dataset of `spec` after `change(arrays)` has spoilt copies of its arrays."""
    dataset = generate(spec)
    arrays = {name: array.copy() for name, array in dataset.arrays.items()}
    change(arrays)
    return Dataset(spec, arrays.pop("sequences"), arrays.pop("targets"), arrays)


@pytest.mark.parametrize("spec", [ADDING, SELECTIVE], ids=lambda spec: spec.task)
def test_t1_sees_one_wrong_target_and_one_wrong_index(spec):
    def wrong_target(arrays):
        arrays["targets"][17, 0] += np.float32(1e-6)

    def wrong_index(arrays):
        arrays["marker_indices"][[4, 5], 0] += 1

    assert checks.target_from_input(changed(spec, wrong_target)).value == 1
    assert checks.target_from_input(changed(spec, wrong_index)).value == 2


@pytest.mark.parametrize("spec", [ADDING, SELECTIVE], ids=lambda spec: spec.task)
def test_t2_sees_missing_surplus_and_soft_markers(spec):
    def spoil(arrays):
        sequences, first = arrays["sequences"], arrays["marker_indices"][:, 0]
        sequences[0, first[0], 1] = 0
        sequences[1, 50, 1] = 1 - sequences[1, 50, 1]
        sequences[2, first[2], 1] = 0.5

    dataset = changed(spec, spoil)
    assert checks.marker_counts(dataset).value == 3
    assert not checks.target_from_input(dataset).passed


def test_t2_sees_a_marker_outside_its_region():
    def spoil(arrays):
        arrays["sequences"][0, arrays["marker_indices"][0, 0], 1] = 0
        arrays["sequences"][0, 50, 1] = 1

    assert checks.marker_counts(changed(ADDING, spoil)).value == 1


def test_t3_values_are_those_measured():
    assert checks.mean_correlation(generate(ADDING)).value == pytest.approx(0.159, abs=5e-4)
    assert checks.mean_correlation(generate(DatasetSpec("adding_problem", 1000, 2024))).value == pytest.approx(
        0.057, abs=5e-4)
    assert 0 < checks.unmarked_ridge(generate(ADDING)).value < 0.1
    assert abs(checks.unmarked_ridge(generate(SELECTIVE)).value) < 0.05


def test_t3_sees_targets_that_leak_into_unmarked_values():
    def leak(arrays):
        arrays["sequences"][:, 50:60, 0] = arrays["targets"][:, :1] / 2

    dataset = changed(ADDING, leak)
    assert checks.unmarked_ridge(dataset).value > 0.9
    assert not checks.unmarked_ridge(dataset).passed
    assert not checks.mean_correlation(dataset).passed


def leaky_forrelation(length):
    """What the earlier published generator did: class 1 has an f that is -1 but at one address."""
    generator, spec = np.random.default_rng(1), DatasetSpec("forrelation", length, 2024)
    labels = (np.arange(5000) % 2 == 0).astype(np.int64)
    tables = generator.choice(np.array([-1, 1], dtype=np.int8), size=(5000, 2, 64))
    tables[labels == 1, 0] = -1
    tables[labels == 1, 0, 0] = 1
    addresses = generator.integers(0, 64, size=(5000, length, 2))
    bits = (addresses[..., None] >> np.arange(6) & 1).astype(np.float32)
    values = np.take_along_axis(tables, addresses.transpose(0, 2, 1), axis=2).transpose(0, 2, 1)
    sequences = np.concatenate([bits, values[..., None].astype(np.float32)], axis=3).reshape(5000, length, 14)
    return Dataset(spec, sequences, labels, {"tables": tables, "phi_numerators": np.zeros(5000, dtype=np.int64)})


@pytest.mark.parametrize("length", [50, 100])
def test_t5_negative_control_the_leaky_generator_fails_t4(length):
    check = checks.marginal_ridge(leaky_forrelation(length))
    assert check.value > 0.95
    assert not check.passed


def test_t6_sees_labels_that_tables_do_not_explain():
    def shuffle(arrays):
        np.random.default_rng(0).shuffle(arrays["targets"])

    check = checks.plug_in_accuracy(changed(FORRELATION, shuffle))
    assert check is not None
    assert check.value < 0.6
    assert not check.passed


@pytest.mark.parametrize("changes", [{"length": 49}, {"changed": (("n_bits", 5),)}, {"n_samples": 400}])
def test_t6_is_left_out_where_no_bound_is_known(changes):
    assert checks.plug_in_accuracy(generate(dataclasses.replace(FORRELATION, **changes))) is None


def test_t7_sees_swapped_tables_and_steps():
    def swap(arrays):
        arrays["tables"][[0, 1]] = arrays["tables"][[1, 0]]

    dataset = changed(FORRELATION, swap)
    assert not checks.phi_of_class_zero(dataset).passed
    assert not checks.phi_of_class_one(dataset).passed
    assert not checks.steps_from_tables(dataset).passed


def test_t7_sees_one_wrong_step():
    def flip(arrays):
        arrays["sequences"][3, 7, 6] *= -1

    assert checks.steps_from_tables(changed(FORRELATION, flip)).value == 1


def test_t8_sees_a_repeated_sequence():
    def repeat(arrays):
        arrays["sequences"][9] = arrays["sequences"][4000]

    assert checks.duplicates(changed(ADDING, repeat)).value == 1


def test_t8_sees_an_item_in_two_parts(monkeypatch):
    split = checks.split_of(FORRELATION)
    overlapping = dataclasses.replace(split, test=np.append(split.test[1:], split.train[0]))
    monkeypatch.setattr(checks, "split_of", lambda spec: overlapping)
    assert checks.split_faults(generate(FORRELATION)).value == 2


def test_t12_sees_sorted_labels():
    def sort(arrays):
        arrays["targets"].sort()

    assert checks.alternating_labels(changed(FORRELATION, sort)).value == 4998


def test_t12_sees_one_class_batches_after_the_split(monkeypatch):
    split = checks.split_of(FORRELATION)
    by_class = dataclasses.replace(split, train=split.train[np.argsort(split.train % 2, kind="stable")])
    monkeypatch.setattr(checks, "split_of", lambda spec: by_class)
    assert checks.one_class_batches(generate(FORRELATION)).value > 100


@pytest.mark.parametrize(
    ("value", "low", "high", "passed", "bound"),
    [
        (0, 0, 0, True, "= 0"),
        (math.nan, 0, 0, False, "= 0"),
        (0.2, -math.inf, 0.13, False, "<= 0.13"),
        (0.985, 0.985, math.inf, True, ">= 0.985"),
        (0.5, 0.45, 0.55, True, "0.45 to 0.55"),
    ],
)
def test_bounds_in_words(value, low, high, passed, bound):
    check = Check("name", value, low, high)
    assert (check.passed, check.bound) == (passed, bound)
