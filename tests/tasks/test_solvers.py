"""Reference solvers and ceilings against the stated values and against simulation."""

import itertools

import numpy as np
import pytest

from qablate.analysis import bounds
from qablate.study import DatasetSpec
from qablate.tasks import generate
from qablate.tasks.solvers import (
    best_threshold,
    chunk_ceiling,
    plug_in_phi,
    position_only_limit,
    position_readout_limit,
    seen_tables,
    solver_accuracies,
)


def test_ceiling_by_counting_all_placements():
    n_markers = 3
    cells = np.arange(7) // 3
    occupied = [len({cells[p] for p in chosen}) for chosen in itertools.combinations(range(7), n_markers)]
    assert chunk_ceiling(7, 3, n_markers) == pytest.approx(np.mean(occupied) / n_markers)
    assert chunk_ceiling(100, 1) == pytest.approx(1)
    assert chunk_ceiling(100, 100) == pytest.approx(1 / 8)


def test_position_only_limit_by_counting():
    chosen = np.array(list(itertools.combinations(range(6), 2)))
    shares = np.array([[np.mean(chosen[:, j] == t) for t in range(6)] for j in range(2)])
    assert position_only_limit(6, 2) == pytest.approx((shares**2).sum() / 2)
    assert position_only_limit(8, 8) == pytest.approx(1)


def test_best_read_out_by_position():
    assert position_readout_limit() == pytest.approx(0.31826, abs=5e-6)
    assert position_only_limit(400, 8) < position_readout_limit()


def test_solvers_on_a_small_forrelation():
    found = solver_accuracies(generate(DatasetSpec("forrelation", 50, 9, 5000, (("n_bits", 3),))))
    assert found["plug_in"] > 0.99 and found["table_ridge"] > 0.95
    assert found["linear"] == pytest.approx(0.5, abs=0.08)


def test_shipped_accuracies_with_fewer_training_items():
    known = bounds.scores_by_training_size()
    rows = known[(known["length"] == 50) & (known["seed"] == 2024) & (known["n_train"] == 250)]
    found = solver_accuracies(generate(DatasetSpec("forrelation", 50, 2024)), 250)
    assert dict(zip(rows["solver"], rows["score"], strict=True)) == found


def test_seen_tables_leave_unseen_entries_empty():
    dataset = generate(DatasetSpec("forrelation", 50, 2024, 500))
    seen = seen_tables(dataset.sequences, 6)
    assert np.array_equal(seen, dataset.extras["tables"] * (seen != 0))
    assert np.mean(seen != 0) == pytest.approx(1 - (1 - 1 / 64) ** 50, abs=0.01)


@pytest.mark.parametrize(
    ("length", "n_bits", "accuracy", "room"),
    [(8, 6, 0.620, 0.025), (25, 6, 0.817, 0.025), (50, 6, 0.948, 0.012), (100, 6, 0.997, 0.004), (50, 4, 0.9935, 0.004),
     (25, 2, 0.999, 0.004)],
)
def test_plug_in_accuracy(length, n_bits, accuracy, room):
    spec = DatasetSpec("forrelation", length, 77, 9000, (("n_bits", n_bits),))
    dataset = generate(spec)
    scores, labels = plug_in_phi(dataset.sequences, n_bits), dataset.targets
    threshold = best_threshold(scores[:4000], labels[:4000])
    assert np.mean((scores[4000:] > threshold) == labels[4000:]) == pytest.approx(accuracy, abs=room)


def test_threshold_by_trying_all():
    generator = np.random.default_rng(0)
    for _ in range(50):
        scores, labels = generator.integers(0, 6, 12) / 2, generator.integers(0, 2, 12)
        candidates = np.arange(-1, 4, 0.25)
        best = max(np.mean((scores > t) == labels) for t in candidates)
        assert np.mean((scores > best_threshold(scores, labels)) == labels) == best
