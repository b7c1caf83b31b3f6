"""The vectorised generators against plain loops that follow the description word by word, and their isolation."""

import dataclasses
import itertools
import random
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from qablate.errors import QablateError
from qablate.study import DatasetSpec
from qablate.tasks import generate


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


def numerator(f, g):
    """Phi times N**1.5 by definition: a double sum over all pairs of addresses."""
    pairs = itertools.product(range(len(f)), range(len(g)))
    return sum(f[x] * (-1) ** (x & y).bit_count() * g[y] for x, y in pairs)


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
        f = g = [1] * size
        while abs(numerator(f, g)) >= 0.15 * size**1.5:
            f, g = sign(table()), sign(table())
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
        assert arrays.extras["phi_numerators"][i] == numerator(f, g)


@pytest.mark.parametrize("task", ["adding_problem", "selective_copy", "forrelation"])
def test_generating_leaves_global_random_states_alone(task):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = generate(DatasetSpec(task, 20, 1, 40))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert generate(DatasetSpec(task, 20, 1, 40)).sha256 == first.sha256


@pytest.mark.parametrize(("changes", "generator"), [
    ({"task": "adding_problem"}, "adding_problem-g1"),
    *((changes, "forrelation-g2") for changes in ({"length": 65}, {"seed": 2}, {"n_samples": 41},
                                                  {"changed": (("n_bits", 5),)}, {"changed": (("n_train", 50),)})),
    *(({"changed": (change,)}, "forrelation-g3") for change in (("encoding", "onehot"), ("order", "sorted"))),
], ids=str)
def test_a_changed_parameter_changes_hash_and_path(changes, generator):
    base = DatasetSpec("forrelation", 64, 1, 40)
    other = dataclasses.replace(base, **changes)
    assert other.path(Path()) != base.path(Path()) and generate(other).sha256 != generate(base).sha256
    assert other.generator == other.path(Path()).parts[-3] == generator


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
