"""Limits of what can be known of a task's input, and the solvers that reach them: closed forms and stated values."""

import math

import numpy as np
import pytest

from qablate.study import DatasetSpec
from qablate.tasks import generate
from qablate.tasks.solvers import (
    chunk_ceiling,
    position_only_limit,
    position_readout_limit,
    solver_accuracies,
    table_products,
)

LENGTHS = (100, 200, 500, 1000)


def test_a_quarter_of_the_length_per_chunk_bounds_alike_at_every_length():
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
