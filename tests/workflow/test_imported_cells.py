"""What other systems have made is not trained again, and what they are to make is left to them. Dry runs."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from conftest import TINY, Workspace
from factories import record_of, schema1_of, write_results

from qablate.study import Cell, Study

FORRELATION = Cell("3a", "forrelation", 50, 2024)


def with_settings(space: Workspace, **changes: object) -> Workspace:
    path = space.folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return space


def put(folder: Path, study: Study, cells: list[Cell], cut: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        text = json.dumps(schema1_of(record_of(study, cell)), indent=2)
        metric = text.find('"test_mse"')
        (folder / cell.result_name).write_text(text[:metric] if cut else text)


def test_only_what_no_system_has_is_trained(new_workspace: Callable[..., Workspace]) -> None:
    space = new_workspace({"systems": {"nersc": {"results": "systems/nersc"}, "dgx": {"results": "systems/dgx"}}})
    study = space.study
    regression = [cell for cell in study.cells if cell.task != "forrelation"]
    nersc, dgx, cut = regression[:100], regression[100:230], regression[230:232]
    put(space.folder / "systems/nersc", study, nersc)
    put(space.folder / "systems/dgx", study, [*dgx, FORRELATION])
    put(space.folder / "systems/nersc", study, cut, cut=True)
    write_results(study, regression[240:242])
    run = space.snakemake("-n")
    assert run.code == 0, run.text
    known = {*nersc, *dgx, *regression[240:242]}
    assert set(run.cells) == set(study.cells) - known
    assert f"396 cells, {len(known)} done (230 of them imported), {396 - len(known)} to train" in run.text
    assert "  dgx: known only with a score selected on its test items\n" in run.text
    assert run.text.count("  nersc: known only without a test score (the file was cut off)\n") == len(cut)
    removed = [cell for cell in nersc if cell.model == "1b"]
    for cell in removed:
        (space.folder / "systems/nersc" / cell.result_name).unlink()
    assert set(space.snakemake("-n").cells) == set(run.cells) | set(removed)
    (space.folder / "systems/dgx").rename(space.folder / "systems/moved")
    missing = space.snakemake("-n")
    assert missing.code != 0 and not missing.cells
    assert "systems.dgx.results: systems/dgx: No such file or directory" in missing.text
    assert "Traceback" not in missing.text


def test_an_imported_cell_and_one_of_another_system_are_not_trained(tiny: Workspace) -> None:
    with_settings(tiny, systems={"dgx": {"results": "elsewhere"}},
                  assign={"overrides": [{"system": "nersc", "models": ["1b"], "seeds": [1]}]})
    study = Study({**tiny.study.config, "training": TINY["training"]})
    study.results = tiny.folder / "results"
    imported, theirs = tiny.cell("3a", 1), tiny.cell("1b", 1)
    (tiny.folder / "elsewhere").mkdir()
    (tiny.folder / "elsewhere" / imported.result_name).write_text(json.dumps(record_of(study, imported)))
    first = tiny.snakemake("--cores", "2")
    assert first.code == 0, first.text
    assert set(first.cells) == set(study.cells) - {imported, theirs}
    assert "  1 cells are assigned to nersc\n" in first.text
    assert not tiny.report.exists()      # a combined report would lack what nersc is to train
    assert not list((tiny.folder / "results/synthetic_benchmarks").glob("*3a*seed1_*"))
    run = tiny.snakemake("--cores", "2", "--config", "system=nersc")
    assert run.code == 0, run.text
    assert set(run.cells) == {theirs}
    assert tiny.report.exists()
    source = tiny.folder / "elsewhere" / imported.result_name
    source.write_text(json.dumps(record_of(study, imported, test_mse=0.123)))
    changed = tiny.snakemake("-n")
    assert not changed.cells
    assert "report on all cells" in changed.text
    source.unlink()
    assert set(tiny.snakemake("-n").cells) == {imported}
