"""Reference solvers and ceilings against the stated values and against simulation."""

import itertools

import numpy as np
import pytest

from qablate.analysis import bounds
from qablate.study import DatasetSpec
from qablate.tasks import generate
from qablate.tasks.solvers import (
    best_threshold,
    plug_in_phi,
    position_only_limit,
    position_readout_limit,
    solver_accuracies,
)


def test_position_only_limit_by_counting():
    chosen = np.array(list(itertools.combinations(range(6), 2)))
    shares = np.array([[np.mean(chosen[:, j] == t) for t in range(6)] for j in range(2)])
    assert position_only_limit(6, 2) == pytest.approx((shares**2).sum() / 2)
    assert position_only_limit(8, 8) == pytest.approx(1)


def test_best_read_out_by_position():
    assert position_readout_limit() == pytest.approx(0.31826, abs=5e-6)
    assert position_only_limit(400, 8) < position_readout_limit()


@pytest.mark.parametrize("n_train", [250, pytest.param(4000, marks=pytest.mark.full)])
def test_shipped_accuracies_are_those_of_the_solvers(n_train):
    known = bounds.scores_by_training_size()
    rows = known[(known["length"] == 50) & (known["seed"] == 2024) & (known["n_train"] == n_train)]
    found = solver_accuracies(generate(DatasetSpec("forrelation", 50, 2024)), n_train)
    assert dict(zip(rows["solver"], rows["score"], strict=True)) == found


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
