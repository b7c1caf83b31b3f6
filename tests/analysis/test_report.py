"""The written report: first page, every size of study, CSV of every part, one self-contained page, safe writing."""

import html
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from factories import published_study, record_of, small_study, write_results

from qablate.analysis import make_report, report
from qablate.analysis.collect import collect
from qablate.analysis.figure import render, style
from qablate.analysis.report import INDEX, TITLE, details_sections, markdown, report_sections
from qablate.analysis.sections import summary
from qablate.cli import main
from qablate.errors import MachineError, QablateError
from qablate.files import LEFTOVER_AGE_S
from qablate.records import write_record
from qablate.study import Study

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "config.yaml", ROOT / "workflow/studies/first_results.yaml"]
FIXTURES = ROOT / "tests/data/import_fixtures"
FIRST_PAGE = ROOT / "tests/data/first_page.md"
ONE_TASK = {"tasks": {"selective_copy": {"lengths": [16, 32], "n_markers": 8}}}


def shipped(results):
    study = Study.load(SHIPPED, {"results": str(results)})
    study.config["systems"] = {"cpu": {"results": str(ROOT / "results/systems/cpu")}}
    return study


def two_systems(results):
    logs = {"logs": str(FIXTURES / "nersc/logs")}
    return published_study(results, systems={"nersc": {"results": str(FIXTURES / "nersc"), **logs},
                                             "dgx": {"results": str(FIXTURES / "dgx")}})


def filled(study, cells=slice(None)):
    write_results(study, study.cells[cells])
    return study


def one_model(results, **changes):
    return filled(small_study(results, models=["2e"], seeds=[5], **changes))


def one_task(results):
    return filled(small_study(results, models=["1a", "2d", "3b"], **ONE_TASK), slice(1, None))


STUDIES = {"none": published_study, "one cell": lambda results: filled(published_study(results), slice(200, 201)),
           "396 cells": lambda results: filled(published_study(results)),
           "two systems": two_systems, "one task": one_task, "one model": one_model}


def first_page(text):
    """Title, Summary and Answers."""
    parts = re.split(r"^(?=## )", text, flags=re.M)
    assert [part.split("\n")[0] for part in parts[1:3]] == ["## Summary", "## Answers"]
    return "".join(parts[:3])


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)     # where workflow/claims.yaml and the cost table are


@pytest.mark.parametrize("kind", [*STUDIES, "shipped"])
def test_report_of_every_size_is_short_and_says_nothing_that_is_no_word(kind, tmp_path, of_shipped):
    runs = of_shipped[0] if kind == "shipped" else collect(STUDIES[kind](tmp_path))
    text = markdown(TITLE, summary.headline(runs), report_sections(runs))
    assert len(text.splitlines()) <= 300
    assert len(first_page(text).splitlines()) <= 70
    assert not re.search(r"\b(?:nan|None|NaT|NaN|inf)\b", text)
    headings = re.findall(r"^## (.*)", text, re.M)
    assert headings[-4:] == ["Needs attention", "Running and missing", "Cost", "Configuration"]
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert line.endswith("|")


@pytest.fixture(scope="module")
def of_shipped(tmp_path_factory):
    """Runs of the cells that this repository ships, and their report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        runs = collect(shipped(tmp_path_factory.mktemp("shipped")))
        return runs, markdown(TITLE, summary.headline(runs), report_sections(runs))


def test_first_page_of_the_shipped_cells_is_the_one_that_was_read(of_shipped):
    assert first_page(of_shipped[1]) == FIRST_PAGE.read_text(encoding="utf-8")


def test_founding_document_readers_find_their_headings_and_checks_are_in_the_details(of_shipped):
    runs, text = of_shipped
    for name in ("Summary", "Combined progress", "Completion status", "Adding Problem results",
                 "Selective Copy results", "Forrelation results", "Models tested", "Hyperparameters",
                 "Task configurations"):
        assert re.search(rf"^(?:## |\*\*){name}", text, re.M), name
    assert "\n## Controls" not in text    # a study without variants
    found = {section.title: section.parts for section in details_sections(runs)}
    assert [part.id for part in found["Controls"]] == ["checks", "gradients"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        study = one_task(tmp_path_factory.mktemp("report") / "results")
        return study, make_report(study, partial=True)


@pytest.mark.parametrize("name", ["progress_report", "report/details"])
def test_page_holds_the_tables_of_the_text_and_needs_no_network(written, name):
    study, _ = written
    text = (study.results / f"{name}.md").read_text(encoding="utf-8")
    page = (study.results / f"{name}.html").read_text(encoding="utf-8")
    shown = {tuple(html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row))
             for row in re.findall("<tr>(.*?)</tr>", page, re.S)}
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) > 20
    for line in lines:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert tuple(re.sub(r"\\(.)|\*\*|`", r"\1", cell) for cell in cells) in shown, line
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert page.count("data:image/png") == text.count("![") > 0


def test_every_part_has_its_csv_and_the_list_names_every_file(written):
    study, report_file = written
    text = report_file.read_text() + (study.results / "report/details.md").read_text().replace("../", "")
    linked = set(re.findall(r"\]\(((?:tables|figures)/[\w.]+)\)", text))
    assert linked and all((study.results / path).is_file() for path in linked)
    listed = set(pd.read_csv(study.results / INDEX)["file"])
    made = {path.relative_to(study.results).as_posix() for folder in ("tables", "figures")
            for path in (study.results / folder).iterdir()}
    assert listed == made and linked <= made


def test_combined_report_names_what_is_missing_and_writes_nothing(tmp_path):
    study = small_study(tmp_path / "results", models=["1a", "3b"], tasks={"adding_problem": {"lengths": [16]}})
    write_results(study, study.cells[1:])
    with pytest.raises(QablateError, match=r"1 of 4 cells are missing: 1a_adding_problem_L16_seed2024 \(missing\)"):
        make_report(study, partial=False)
    assert [path.name for path in study.results.iterdir()] == ["synthetic_benchmarks"]
    study.config["systems"] = {"dgx": {"results": str(tmp_path / "gone")}}
    with pytest.raises(QablateError, match="gone"):
        make_report(study, partial=False)
    assert "Not read" in summary.headline(collect(study))


@pytest.mark.parametrize(("words", "command"), [
    ([], "qablate report --partial"),
    (["--config", "config.yaml"], "qablate report --partial"),
    (["--config", "my study.yaml"], "qablate report --partial --config config.yaml 'my study.yaml'"),
    (["--set", '{"system": "lab"}'], """qablate report --partial --set '{"system":"lab"}'"""),
])
def test_the_command_for_what_exists_is_that_of_the_same_study(words, command, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_bytes(SHIPPED[0].read_bytes())
    (tmp_path / "my study.yaml").write_text("seeds: [2024]")
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert f"; `{command}` reports on what exists" in capsys.readouterr().err


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """The results of a small study with its report; in the folders of the report lie files of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        study = one_model(tmp_path_factory.mktemp("last") / "results", **ONE_TASK)
        make_report(study, partial=True)
    for name in ("tables", "report"):
        (study.results / name / "mine.txt").write_text("kept")
    return study


@pytest.fixture
def study(last, tmp_path, monkeypatch):
    """A copy of the results with a report; figures are not drawn anew."""
    shutil.copytree(last.results, tmp_path / "results")
    monkeypatch.setattr(report, "render", lambda *_: b"a figure")
    return small_study(tmp_path / "results", models=["2e"], seeds=[5], **ONE_TASK)


def files_below(study):
    return {path.relative_to(study.results): path.read_bytes() for path in sorted(study.results.rglob("*"))
            if path.is_file() and "synthetic_benchmarks" not in path.parts}


def test_a_report_that_fails_leaves_the_last_one_and_other_files_stay(study, monkeypatch):
    before = files_below(study)

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(report, "render", full)
        make_report(study, partial=True)
    assert files_below(study) == before
    (study.results / "tables/scores_adding_problem.csv").write_text("old")
    other = Study({**study.config, "tasks": {"adding_problem": {"lengths": [16], "placement": "extremes"}}})
    other.results = study.results
    make_report(other, partial=True)
    after = files_below(study)
    gone = {path.name for path in before} - {path.name for path in after}
    assert {"scores_selective_copy.csv", "length_selective_copy.png"} <= gone
    assert after[Path("tables/mine.txt")] == after[Path("report/mine.txt")] == b"kept"
    assert after[Path("tables/scores_adding_problem.csv")] != b"old"


@pytest.mark.parametrize(("name", "reason"), [
    ("tables", "Not a directory"), ("report", "Not a directory"), ("progress_report.md", "Is a directory")])
def test_what_is_in_the_way_is_one_line_and_the_last_report_stays_whole(study, name, reason, tmp_path):
    place, aside = study.results / name, tmp_path / "aside"
    place.rename(aside)
    if aside.is_dir():
        place.write_text("in the way")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("in the way")
    before = files_below(study)
    write_results(study, [cell for cell in study.cells if cell.length == 16], test_r2=0.5)
    with pytest.raises(MachineError, match=f"results/{name}: cannot write: {reason}"):
        make_report(study, partial=True)
    assert files_below(study) == before and not list(study.results.glob(".report-*"))


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_results_that_are_no_folder_are_one_line(kind, tmp_path):
    results = tmp_path / "results"
    if kind == "file":
        results.write_text("mine")
    else:
        results.symlink_to(tmp_path / "nowhere")
    with pytest.raises(MachineError, match="results: cannot write: "):
        make_report(small_study(results, models=["2e"], seeds=[5], **ONE_TASK), partial=True)
    assert results.is_symlink() or results.read_text() == "mine"


def test_another_report_in_between_takes_nobodys_files(study, monkeypatch):
    rename = Path.rename

    def slow(path, target):
        if path.name == "tables" and Path(target) == study.results / "tables":
            (study.results / "tables").mkdir()
            (study.results / "tables/others.csv").write_text("of the faster report")
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(MachineError, match="tables: cannot write: Directory not empty"):
        patch.setattr(Path, "rename", slow)
        make_report(study, partial=True)
    assert {path.name for path in (study.results / "tables").iterdir()} == {"mine.txt", "others.csv"}


def test_leftovers_of_killed_reports_go_after_a_day_and_files_of_others_go_back(study):
    make_report(study, partial=True)
    for name, age, others in (("new", 0, "new.txt"), ("swapping", 2, "yours.txt"), ("taken", 2, "runs.xls")):
        old = study.results / f".report-{name}" / "tables.old"
        old.mkdir(parents=True)
        for file in (others, "runs.csv"):
            (old / file).write_text(name)
        os.utime(old.parent, (time.time() - age * LEFTOVER_AGE_S,) * 2)
    (study.results / "tables/runs.xls").write_text("another")
    make_report(study, partial=True)
    assert sorted(path.name for path in study.results.glob(".report-*")) == [".report-new", ".report-taken"]
    assert (study.results / "tables/yours.txt").read_text() == "swapping"
    assert (study.results / ".report-taken/tables.old/runs.xls").read_text() == "taken"
    assert (study.results / "tables/runs.csv").read_text() != "swapping"


MAKE_REPORT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from factories import small_study
from qablate.analysis import make_report
tasks = {"forrelation": {"lengths": [16, 32], "n_bits": 6}}
make_report(small_study(Path("results"), models=["2e"], seeds=[5], tasks=tasks), partial=True)
print(*sorted({"torch", "pennylane"} & set(sys.modules)))
"""


def test_same_results_give_the_same_bytes_in_every_process(tmp_path):
    study = one_model(tmp_path / "results", tasks={"forrelation": {"lengths": [16, 32], "n_bits": 6}})
    made = []
    for hash_seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", MAKE_REPORT, str(ROOT / "tests")], cwd=tmp_path, check=True,
                              capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
        assert done.stdout.strip() == ""     # neither torch nor PennyLane was imported
        made.append(files_below(study))
        time.sleep(1.1)     # a time of day in a file would now differ
    assert made[0] == made[1] and len(made[0]) > 30


def test_hostile_text_is_only_text(tmp_path):
    study = small_study(tmp_path / "results", models=["1a"], seeds=[1], tasks={"adding_problem": {"lengths": [16]}})
    nasty = "=cmd() <script>alert(1)</script> | [link](http://x) `code`"
    write_record(study.result_path(study.cells[0]),
                 record_of(study, study.cells[0], provenance={"device_name": nasty, "host": "@SUM(1)"}))
    make_report(study, partial=False)
    page = (study.results / "report/details.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and 'href="http://x"' not in page
    row = pd.read_csv(study.results / "tables/runs.csv").iloc[0]
    assert row["device_name"] == f"'{nasty}" and row["provenance.host"] == "'@SUM(1)"


def test_a_pdf_if_asked_for_and_maps_print_what_their_csv_holds(tmp_path):
    study = one_model(tmp_path / "results", **ONE_TASK)
    make_report(study, partial=True, pdf=True)
    names = {path.stem for path in (study.results / "figures").glob("*.png")}
    assert {path.stem for path in (study.results / "figures").glob("*.pdf")} == names
    figure = summary.score_map(collect(study))
    with style():
        printed = [text.get_text() for axis in figure.draw().axes for text in axis.texts]
        assert render(figure.draw()) == (study.results / "figures/score_map.png").read_bytes()
    for row in figure.data.to_dict("records"):
        metric = {"adding_problem": "test_mse", "selective_copy": "test_r2", "forrelation": "test_acc"}[row["task"]]
        assert summary.compact(metric, row["mean"]) in printed
    assert [summary.compact("test_r2", score) for score in (-0.003, -0.13, 0.9)] == [".00", "−.13", ".90"]
