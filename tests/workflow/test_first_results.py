"""The results that this repository ships: whole, of the published study, counted by the import like anyone's."""

import runpy
from pathlib import Path

import pytest

from qablate.results import merge, read_record
from qablate.study import Study

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("results/systems/*/*.json"))
OVERLAY = ROOT / "workflow/studies/first_results.yaml"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("overlays", "shipped"), [([OVERLAY], {path.name for path in SHIPPED}), ([], set())])
def test_the_overlay_counts_every_shipped_file_as_a_finished_cell(overlays, shipped):
    study = Study.load([ROOT / "config.yaml", *overlays], {"results": "no-results-of-its-own"})
    counted = {study.result_path(cell).name for cell, run in merge(study).runs.items() if run.finished}
    assert SHIPPED and counted == shipped and len(study.cells) == 396


def test_page_of_first_results_is_what_its_report_says(tmp_path):
    """If not: `.venv/bin/python docs/refresh_results.py`, then read what stands around the tables."""
    refreshing = runpy.run_path(str(ROOT / "docs/refresh_results.py"))
    parts = refreshing["parts_of"](Study.load([ROOT / "config.yaml", OVERLAY], {"results": str(tmp_path)}))
    page = (ROOT / "docs/results.md").read_text()
    tables = refreshing["MARKED"].findall(page)
    assert len(tables) >= 6 and page.count("\n|---") == len(tables)
    assert refreshing["with_tables"](page, parts) == page


def test_shipped_files_name_their_system_and_nothing_of_the_machine():
    for path in SHIPPED:
        record = read_record(path)
        assert record["provenance"]["source"] == path.parent.name
        assert not record["provenance"]["git_dirty"], path.name
        assert "/home" not in path.read_text() and "/tmp" not in path.read_text(), path.name
