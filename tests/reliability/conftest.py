"""A cell of two epochs before, in the middle of and after its training, for tests that disturb copies of it."""

import signal

import pytest
from harness import KillAtStep, Workplace, copy_of, workplace

TWO_EPOCHS = {"max_epochs": 2, "batch_size": 48}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Workplace:
    return workplace(tmp_path_factory.mktemp("cell") / "fresh", training=TWO_EPOCHS)


@pytest.fixture(scope="module")
def whole(fresh) -> Workplace:
    place = copy_of(fresh, fresh.folder.with_name("whole"))
    assert place.run() == 0
    return place


@pytest.fixture(scope="module")
def killed(fresh) -> Workplace:
    place = copy_of(fresh, fresh.folder.with_name("killed"))
    assert place.run(KillAtStep(16)) == -signal.SIGKILL
    assert len(place.checkpoints()) == 2
    return place


@pytest.fixture
def place(fresh, tmp_path) -> Workplace:
    """A copy that a test may spoil."""
    return copy_of(fresh, tmp_path / "cell")


@pytest.fixture
def halfway(killed, tmp_path) -> Workplace:
    """A copy of the killed cell, with checkpoints of two generations."""
    return copy_of(killed, tmp_path / "halfway")
