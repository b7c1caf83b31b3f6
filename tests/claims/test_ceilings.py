"""Floors, ceilings and reference solvers: closed forms against simulation, and both against the stated values."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from ceilings import density_ceiling, order_lost_ceiling, sort_and_read, window_ceiling
from factories import small_study
from synthetic import SEEDS, row, study

from qablate.analysis.ceilings import known_datasets, references, selection_floors, share_of_way, shares
from qablate.study import DatasetSpec, published_sha256
from qablate.tasks import generate, split_of
from qablate.tasks.selective import selective_copy
from qablate.tasks.solvers import (
    cell_means,
    chunk_ceiling,
    position_only_limit,
    position_readout_limit,
    solver_accuracies,
    table_products,
)

LENGTHS = (100, 200, 500, 1000)
ORDER_LOST = [(100, 0.186), (200, 0.177), (500, 0.167), (1000, 0.133)]


def cell_mean_r2(n, length, chunk, seed):
    """R2 of the predictor that knows the mean of each chunk's markers and nothing more."""
    drawn = selective_copy(n, length, seed)
    predicted = cell_means(drawn.sequences, chunk, 8)
    return 1 - np.mean((predicted - drawn.targets) ** 2) / drawn.targets.var()


@pytest.mark.parametrize(("length", "chunk"), [(100, 8), (100, 64), (200, 32), (500, 16)])
def test_the_cell_mean_predictor_reaches_the_ceiling(length, chunk):
    assert cell_mean_r2(4000, length, chunk, 5) == pytest.approx(chunk_ceiling(length, chunk), abs=0.018)


@pytest.mark.full
@pytest.mark.parametrize(("length", "chunk"), list(itertools.product(LENGTHS, (4, 8, 16, 32, 64))))
def test_the_cell_mean_predictor_reaches_the_ceiling_on_many_draws(length, chunk):
    assert cell_mean_r2(20_000, length, chunk, 6) == pytest.approx(chunk_ceiling(length, chunk), abs=0.008)


def test_sort_and_read_solves_selective_copy():
    drawn = selective_copy(300, 100, 1)
    assert np.array_equal(sort_and_read(drawn.sequences, 8), drawn.targets)


@pytest.mark.parametrize(("length", "limit"), ORDER_LOST)
def test_order_of_chunks_lost(length, limit):
    assert order_lost_ceiling(length, 32, 4000, 1) == pytest.approx(limit, abs=0.006)


@pytest.mark.full
@pytest.mark.parametrize(("length", "limit"), ORDER_LOST)
def test_order_of_chunks_lost_on_many_draws(length, limit):
    assert order_lost_ceiling(length, 32, 25_000, 2) == pytest.approx(limit, abs=0.006)


def test_order_of_chunks_lost_by_averaging_over_all_orders():
    """Two full chunks of 3 and a last one of 2: the posterior mean by listing every placement of 3 markers."""
    rng, cells = np.random.default_rng(0), np.repeat([0, 1, 2], (3, 3, 2))
    explained = []
    for chosen in itertools.combinations(range(8), 3):
        counts = np.bincount(cells[list(chosen)], minlength=3)
        values = rng.normal(size=(4000, 3))
        groups = np.split(values, np.cumsum(counts)[:-1], axis=1)
        means = [g.mean(axis=1, keepdims=True) * np.ones_like(g) if g.size else g for g in groups]
        orders = [[means[0], means[1], means[2]], [means[1], means[0], means[2]]]
        predicted = np.mean([np.concatenate(order, axis=1) for order in orders], axis=0)
        explained.append(np.mean(predicted**2))
    assert order_lost_ceiling(8, 3, 20_000, 0, n_markers=3) == pytest.approx(np.mean(explained), abs=0.02)


def test_controls_of_the_chunk_hypothesis():
    assert [window_ceiling(length, 32) for length in LENGTHS] == pytest.approx((0.396, 0.423, 0.424, 0.423), abs=5e-4)
    assert window_ceiling(200, 16) == pytest.approx(0.618, abs=5e-4)
    assert window_ceiling(500, 8) == pytest.approx(0.787, abs=5e-4)
    assert [density_ceiling(length, 32) for length in LENGTHS] == pytest.approx((0.396, 0.385, 0.372, 0.368), abs=5e-4)
    quarter = [chunk_ceiling(length, length // 4) for length in LENGTHS]
    assert quarter == pytest.approx((0.4547, 0.4523, 0.4509, 0.4504), abs=5e-5)


def test_best_read_out_by_position():
    assert position_readout_limit() == pytest.approx(0.31826, abs=5e-6)
    assert position_readout_limit(3) == pytest.approx(
        sum(math.comb(2, j) ** 2 / (5 * math.comb(4, 2 * j)) for j in range(3)))
    assert position_only_limit(400, 8) < position_readout_limit()


def test_table_products_are_those_of_the_seen_tables():
    dataset = generate(DatasetSpec("forrelation", 400, 3, 60, (("n_bits", 2),)))
    tables = dataset.extras["tables"].astype(float)
    assert np.array_equal(table_products(dataset.sequences, 2), np.einsum("ix,iy->ixy", tables[:, 0], tables[:, 1])
                          .reshape(60, -1))


def test_solvers_on_a_small_forrelation():
    found = solver_accuracies(generate(DatasetSpec("forrelation", 50, 9, 5000, (("n_bits", 3),))))
    assert found["plug_in"] > 0.99 and found["table_ridge"] > 0.95
    assert found["linear"] == pytest.approx(0.5, abs=0.08)


@pytest.mark.full
def test_the_committed_scores_are_those_of_the_solvers():
    spec = DatasetSpec("forrelation", 50, 2024)
    dataset, known = generate(spec), known_datasets()
    rows = known[known["dataset_sha256"] == published_sha256()[spec.identity_json]]
    assert dict(zip(rows["solver"], rows["score"], strict=True)) == solver_accuracies(dataset)
    assert set(rows["test_positives"]) == {int(dataset.targets[split_of(spec).test].sum())}


def test_committed_scores_lie_in_the_stated_ranges():
    known = known_datasets()
    assert len(known) == 27 and set(known["n_test"]) == {500}
    for solver, ranges in (("table_ridge", ((0.89, 0.02), (0.98, 0.015), (0.998, 0.01))),
                           ("plug_in", ((0.948, 0.012), (0.997, 0.004), (1.0, 0.001)))):
        for length, (centre, room) in zip((50, 100, 200), ranges, strict=True):
            mean = known[(known["solver"] == solver) & (known["length"] == length)]["score"].mean()
            assert mean == pytest.approx(centre, abs=room)
    assert known[known["solver"] == "linear"]["score"].mean() == pytest.approx(0.5, abs=0.025)


def test_references_of_the_published_study():
    table = references(study())
    adding = table[(table["task"] == "adding_problem") & (table["length"] == 100)].set_index("reference")["value"]
    assert adding["mean predicted"] == pytest.approx(1 / 6)
    assert adding["one of two values known"] == pytest.approx(1 / 12)
    assert 1 - 6 * adding["markers ignored, outer tenths averaged"] == pytest.approx(0.1)
    copy = table[(table["task"] == "selective_copy") & (table["length"] == 100) & (table["model"] == "1c")]
    assert copy["value"].iloc[0] == pytest.approx(0.4946, abs=5e-5)
    assert set(table[table["role"] == "ceiling"]["task"]) == {"adding_problem", "selective_copy", "forrelation"}
    assert set(table[table["reference"] == "plug in"]["n"]) == {len(SEEDS)}


def test_references_of_an_unknown_forrelation_have_no_solver(tmp_path):
    table = references(small_study(tmp_path))
    assert set(table[table["task"] == "forrelation"]["role"]) == {"floor"}


def test_table_of_selection_floors():
    table = selection_floors(500, repetitions=2000)
    assert table["correlation"].tolist() == [0, 0.5, 0.8, 0.9, 0.95]
    assert (np.diff(table["reported"]) < 0).all() and table["reported"].between(0.519, 0.55).all()
    assert (table["best_of_108"] > table["best_of_9"]).all() and (table["best_of_9"] > table["reported"]).all()
    assert table.equals(selection_floors(500, repetitions=2000))


def test_shares_of_the_way():
    assert share_of_way(0.5, 0.0, 1.0) == 0.5 and share_of_way(1 / 12, 1 / 6, 0.0) == pytest.approx(0.5)
    assert math.isnan(share_of_way(0.5, 0.5, 0.5))
    runs = pd.DataFrame([row("1b", "selective_copy", 100, 2024, 0.3960), row("3b", "selective_copy", 100, 2024, 0.3960),
                         row("3b", "forrelation", 50, 2024, 0.5), row("3b", "selective_copy", 100, 2025, np.nan)])
    found = shares(runs, study())["share"].tolist()
    assert found == pytest.approx([1.0, 0.396, 0.0], abs=1e-3)
