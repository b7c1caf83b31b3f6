"""Fixtures of the training tests."""

from pathlib import Path

import pytest
from tiny import tiny_study

from qablate.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return tiny_study(tmp_path / "results")
