"""A cell of two epochs, once before its training and once after it, for tests that disturb copies of it."""

import pytest
from harness import Workplace, copy_of, workplace

TWO_EPOCHS = {"max_epochs": 2, "batch_size": 48}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Workplace:
    return workplace(tmp_path_factory.mktemp("cell") / "fresh", training=TWO_EPOCHS)


@pytest.fixture(scope="module")
def whole(fresh) -> Workplace:
    place = copy_of(fresh, fresh.folder.with_name("whole"))
    assert place.run() == 0
    return place


@pytest.fixture
def place(fresh, tmp_path) -> Workplace:
    """A copy that a test may spoil."""
    return copy_of(fresh, tmp_path / "cell")
