"""A small study, what trainings left of it, and a queue that answers only when a test says what."""

from pathlib import Path

import pytest
from factories import small_study
from status_traces import FakeQueue, Traces

from qablate.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path / "results", models=["1b", "2d", "3a"])


@pytest.fixture
def traces(study: Study) -> Traces:
    return Traces(study)


@pytest.fixture(autouse=True)
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    """No squeue is found unless a test lets this one answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    return FakeQueue(folder, monkeypatch)
