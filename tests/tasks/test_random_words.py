"""The word stream of the published datasets: facts first, so that a changed stream shows here and legibly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qablate.tasks.draws import RandomWords, permutation, permutation_heads, unit_floats


def test_first_words_and_floats_of_seed_2024():
    words = RandomWords(2024).take(6)
    assert words.tolist() == [2525503112, 3251949050, 3002649184, 3172895360, 808106523, 2555999780]
    assert unit_floats(words[:3]) == pytest.approx([0.53171587, 0.83126795, 0.97183800], abs=1e-8)


@pytest.mark.parametrize("seed", [0, 2024, 2**32 - 1])
def test_floats_are_those_of_torch(seed):
    generator = torch.Generator().manual_seed(seed)
    assert torch.rand(1000, generator=generator).numpy().tolist() == unit_floats(RandomWords(seed).take(1000)).tolist()


def test_integers_are_those_of_torch():
    generator = torch.Generator().manual_seed(7)
    expected = torch.randint(90, 103, (1000,), generator=generator)
    assert expected.tolist() == (90 + RandomWords(7).take(1000) % 13).tolist()


@pytest.mark.parametrize("n", [2, 3, 100, 5000])
def test_permutation_is_torchs(n):
    expected = torch.randperm(n, generator=torch.Generator().manual_seed(2025))
    assert expected.tolist() == permutation(RandomWords(2025).take(n - 1)).tolist()


def test_mixed_calls_share_one_stream_in_torch():
    generator, words = torch.Generator().manual_seed(3), RandomWords(3)
    floats = torch.rand(5, generator=generator)
    order = torch.randperm(9, generator=generator)
    assert floats.tolist() == unit_floats(words.take(5)).tolist()
    assert order.tolist() == permutation(words.take(8)).tolist()


@given(sizes=st.lists(st.integers(0, 50), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_splitting_calls_changes_nothing(sizes, seed):
    words = RandomWords(seed)
    parts = [words.take(size) for size in sizes]
    assert np.array_equal(np.concatenate([*parts, words.take(1)]), RandomWords(seed).take(sum(sizes) + 1))


@given(length=st.integers(1, 40), count=st.integers(1, 40), n=st.integers(0, 5), seed=st.integers(0, 1000))
def test_permutation_heads_are_the_heads_of_permutations(length, count, n, seed):
    count = min(count, length)
    words = RandomWords(seed).take(n, length - 1)
    expected = [permutation(row)[:count].tolist() for row in words]
    assert permutation_heads(words, count).tolist() == expected


@given(words=st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_permutation_holds_every_entry_once(words):
    assert sorted(permutation(np.array(words, dtype=np.uint32)).tolist()) == list(range(len(words) + 1))
