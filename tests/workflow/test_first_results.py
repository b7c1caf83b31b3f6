"""The results that this repository ships: whole, of the published study, counted by the import like anyone's."""

import runpy
from pathlib import Path

import pytest

from qablate.analysis.claims import load_claims
from qablate.analysis.collect import collect
from qablate.analysis.statistics import ALPHA, benefits, contrast, difference, holm, scale_of, weights
from qablate.results import merge, read_record
from qablate.study import Study

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("results/systems/*/*.json"))
PUBLISHED = [path for path in SHIPPED if path.parent.name != "controls"]
OVERLAY = ROOT / "workflow/studies/first_results.yaml"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("overlays", "shipped"), [([OVERLAY], {path.name for path in PUBLISHED}), ([], set())])
def test_the_overlay_counts_every_shipped_file_as_a_finished_cell(overlays, shipped):
    study = Study.load([ROOT / "config.yaml", *overlays], {"results": "no-results-of-its-own"})
    counted = {study.result_path(cell).name for cell, run in merge(study).runs.items() if run.finishes}
    assert PUBLISHED and counted == shipped and len(study.cells) == 396


@pytest.mark.parametrize(("page", "tables"), [("results", 6), ("controls", 6)])
def test_pages_show_what_the_reports_say(page, tables):
    """If not: `.venv/bin/python docs/refresh_results.py`, then read what stands around the tables."""
    refreshing = runpy.run_path(str(ROOT / "docs/refresh_results.py"))
    text = (ROOT / f"docs/{page}.md").read_text()
    assert len(refreshing["MARKED"].findall(text)) >= tables
    assert refreshing["with_tables"](text) == text


def test_cells_that_a_cpu_and_a_gpu_made_agree():
    made = {}
    for path in PUBLISHED:
        made.setdefault(path.name, []).append(read_record(path))
    twice = [records for records in made.values() if len(records) > 1]
    assert len(twice) >= 9
    for one, other in twice:
        assert {one["provenance"]["source"], other["provenance"]["source"]} > {"cpu"}
        if one["task"] == "adding_problem":
            assert max(one["test_mse"], other["test_mse"]) < 3e-4, one["model_id"]
        else:
            assert abs(one["test_r2"] - other["test_r2"]) < 0.006, one["model_id"]


def test_shipped_files_name_their_system_and_nothing_of_the_machine():
    for path in SHIPPED:
        record = read_record(path)
        assert record["provenance"]["source"] == {"controls": "cpu"}.get(path.parent.name, path.parent.name)
        assert not record["provenance"]["git_dirty"], path.name
        assert "/home" not in path.read_text() and "/tmp" not in path.read_text(), path.name


def test_what_stays_equivalent_on_forrelation_when_a_seed_is_one_unit():
    """The blocks of a seed share their test labels. README and docs/results.md say what the three seeds alone show."""
    runs = collect(Study.load([ROOT / "config.yaml", OVERLAY], {"results": "no-results-of-its-own"}))
    y, margin = benefits(runs.table, "forrelation"), scale_of("forrelation").margin
    contrasts, equivalent = {one.id: one for one in load_claims(runs.study).contrasts}, set()
    for family in (["quantum"], ["features", "mixing", "group4-group3", "group4-group2", "group4-group1"],
                   ["hydra-mamba", "mamba-transformer"]):
        rows = [contrasts[name] for name in family]
        p = [difference(contrast(y, weights(one.plus, one.minus)).groupby("seed").mean()).tost(margin) for one in rows]
        equivalent |= {name for name, adjusted in zip(family, holm(p), strict=True) if adjusted <= ALPHA}
    assert equivalent == {"quantum", "features", "hydra-mamba", "mamba-transformer"}
