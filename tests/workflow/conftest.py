"""A copy of the workflow in a folder of its own, run as a user runs it, with a stand-in for the trainer."""

from collections.abc import Callable
from typing import Any

import pytest
from working_folder import TINY, WorkingFolder


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WorkingFolder]:
    def make(**settings: Any) -> WorkingFolder:
        space = WorkingFolder.make(tmp_path_factory.mktemp("study"), **settings)
        space.stand_in()
        return space

    return make


@pytest.fixture
def tiny(new_workspace: Callable[..., WorkingFolder]) -> WorkingFolder:
    return new_workspace(**TINY)
