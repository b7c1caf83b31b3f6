"""Seeds of a cell are a function of name, seed and cell key alone."""

import hashlib
import random

import numpy as np
import torch

from qablate.training.loop import Streams, generator_states, restore_generators, seed_everything

CELL = "published/published/1b/adding_problem/L100"


def test_seed_follows_the_stated_formula():
    text = f"qablate-rng-1/shuffle/2024/{CELL}/7"
    expected = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") % 2**63
    assert Streams(2024, CELL).seed("shuffle", 7) == expected


def test_streams_differ_by_name_epoch_seed_and_cell():
    seeds = {
        Streams(seed, cell).seed(name, epoch)
        for seed in (2024, 2025)
        for cell in (CELL, CELL.replace("1b", "1c"))
        for name, epoch in (("init", None), ("bootstrap", None), ("shuffle", 1), ("shuffle", 2), ("dropout", 1))
    }
    assert len(seeds) == 20


def test_batch_order_is_a_permutation_and_leaves_global_generators_alone():
    before = torch.get_rng_state()
    order = Streams(2024, CELL).batch_order(100, 1)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(order, Streams(2024, CELL).batch_order(100, 2))


def test_seeding_covers_python_numpy_and_torch():
    def draws():
        seed_everything(5)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert draws() == draws()


def test_generator_states_come_back():
    seed_everything(1)
    states = generator_states()
    first = torch.rand(3)
    restore_generators(states)
    assert torch.equal(first, torch.rand(3))
