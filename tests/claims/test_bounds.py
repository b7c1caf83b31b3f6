"""Baselines, upper bounds and reference solvers: closed forms against simulation, both against the stated values."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from factories import published_study, small_study

from qablate.analysis import bounds
from qablate.study import DatasetSpec, published_sha256
from qablate.tasks import generate, split_of
from qablate.tasks.solvers import cell_means, chunk_ceiling

LENGTHS = (100, 200, 500, 1000)


def test_upper_bounds_of_the_published_study(tmp_path):
    study = published_study(tmp_path)
    def of(model):
        return [bounds.upper_bound(study, "selective_copy", length, model) for length in LENGTHS]
    assert of("1a") == pytest.approx([0.610, 0.775, 0.901, 0.949], abs=5e-4)
    assert of("1b") == pytest.approx([0.396, 0.604, 0.810, 0.898], abs=5e-4)
    assert of("1c") == pytest.approx([0.495, 0.733, 0.894, 0.936], abs=5e-4)
    assert of("2d") == of("2e") == pytest.approx([0.186, 0.177, 0.167, 0.133], abs=3e-3)
    assert of("2e") == pytest.approx([0.18600, 0.17473, 0.16523, 0.13516], abs=1e-5)
    assert of("3b") == [1.0] * 4
    assert bounds.upper_bound(study, "adding_problem", 100) == 0.0
    assert [bounds.upper_bound(study, "forrelation", length) for length in (50, 100, 200)] == pytest.approx(
        [0.947, 0.998, 1.0], abs=5e-4)


def test_the_bound_is_that_of_the_chunk_and_the_markers_of_a_study(tmp_path):
    study = published_study(tmp_path, models=["1b", "1b-chunk8", "2d", "3b", "3b-chunk32"], variants={
        name: {"model": {"chunk": int(name[5:])}} for name in ("chunk8", "chunk32")},
        tasks={"selective_copy": {"lengths": [100], "n_markers": 3}})
    found = {model: bounds.upper_bound(study, "selective_copy", 100, model) for model in study.config["models"]}
    lost = bounds.order_lost_bound(100, study.chunk("2d", 100), 3)
    assert found == {"1b": chunk_ceiling(100, 32, 3), "1b-chunk8": chunk_ceiling(100, 8, 3), "2d": lost, "3b": 1.0,
                     "3b-chunk32": chunk_ceiling(100, 32, 3)}


@pytest.mark.parametrize(("length", "chunk", "markers"), [(8, 3, 3), (9, 3, 3), (11, 4, 2), (10, 2, 4)])
def test_bound_without_the_order_of_chunks_by_listing_every_placement(length, chunk, markers):
    """For each placement the posterior mean over all orders of the full chunks, from drawn values."""
    rng, n_full, explained = np.random.default_rng(0), length // chunk, []
    cells = np.arange(length) // chunk
    for chosen in itertools.combinations(range(length), markers):
        counts = np.bincount(cells[list(chosen)], minlength=n_full + 1)
        values = rng.normal(size=(600, markers))
        groups = np.split(values, np.cumsum(counts)[:-1], axis=1)
        means = [part.mean(axis=1, keepdims=True) * np.ones_like(part) if part.size else part for part in groups]
        orders = [[*(means[i] for i in order), *means[n_full:]] for order in itertools.permutations(range(n_full))]
        predicted = np.mean([np.concatenate(order, axis=1) for order in orders], axis=0)
        explained.append(np.mean(predicted**2))
    assert bounds.order_lost_bound(length, chunk, markers) == pytest.approx(np.mean(explained), abs=0.03)


@pytest.mark.parametrize(("length", "chunk", "both"), [(100, 8, False), (200, 32, False), (500, 16, False),
                                                       (100, 32, True)])
def test_the_cell_mean_predictor_reaches_the_chunk_bound(length, chunk, both):
    drawn = generate(DatasetSpec("selective_copy", length, 5, 4000))
    r2 = 1 - np.mean((cell_means(drawn.sequences, chunk, 8, both) - drawn.targets) ** 2) / drawn.targets.var()
    assert r2 == pytest.approx(chunk_ceiling(length, chunk, both_directions=both), abs=0.018)


def test_baselines_and_normalised_scores():
    assert [bounds.baseline(task) for task in ("adding_problem", "selective_copy", "forrelation")] == [1 / 6, 0.0, 0.5]
    found = bounds.normalized_score(*map(pd.Series, ([1 / 12, 0.4, 0.5], [1 / 6, 0.5, 0.5], [0.0, 1.0, 0.5])))
    assert found.tolist() == pytest.approx([0.5, -0.2, math.nan], nan_ok=True)


def test_a_forrelation_of_other_datasets_has_no_solver(tmp_path):
    table = bounds.references(small_study(tmp_path))
    assert set(table[table["task"] == "forrelation"]["role"]) == {"baseline"}
    assert bounds.upper_bound(small_study(tmp_path), "forrelation", 16) is None
    assert bounds.solvers_of_study(small_study(tmp_path)).empty


def test_the_committed_labels_and_scores_are_those_of_the_dataset():
    spec = DatasetSpec("forrelation", 50, 2025)
    dataset, split, known = generate(spec), split_of(spec), bounds.known_datasets()
    rows = known[known["dataset_sha256"] == published_sha256()[spec.identity_json]]
    assert set(rows["test_positives"]) == {int(dataset.targets[split.test].sum())}
    assert set(rows["val_positives"]) == {int(dataset.targets[split.val].sum())}
    assert (rows["n_test"] == len(split.test)).all() and (rows["n_val"] == len(split.val)).all()
