"""A thirteenth model in a fifth group and a fourth task, added to a copy of the package as docs/adding.md says."""

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from working_folder import ROOT, WorkingFolder

PAGE = (ROOT / "docs/adding.md").read_text()
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+?)(?:: (\w+))?\n(.*?)```", re.S)
BLOCKS = BLOCK.findall(PAGE)
CELLS = [("5a", "parity", 16), ("3a", "parity", 16), ("5a", "adding_problem", 100)]


def with_entry(source: str, table: str, entry: str) -> str:
    """A module with one more entry at the end of a table."""
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)
                 and isinstance(node.target, ast.Name) and node.target.id == table)
    rows = found.value.args    # of the call that makes the table: entries, or one dict of them
    if isinstance(rows[0], ast.Dict):
        rows = rows[0].values
    lines, last = source.splitlines(keepends=True), rows[-1]
    first = lines[rows[0].lineno - 1]
    indent = first[:len(first) - len(first.lstrip())]
    return "".join([*lines[:last.end_lineno], textwrap.indent(entry, indent), *lines[last.end_lineno:]])


class Extended(WorkingFolder):
    """A working folder whose commands run the copy of the package."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *words], cwd=self.folder, env=self.environment, text=True,
                              capture_output=True, timeout=280, check=False)

    def qablate(self, command: str, *options: str) -> str:
        done = self.run("qablate.cli", command, "--config", "workflow/studies/parity.yaml", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def result(self, model: str, task: str, length: int) -> Path:
        name = f"synthetic_{model}_{task}_L{length}_seed2024_results.json"
        return self.folder / "results/parity/synthetic_benchmarks" / name


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Extended:
    """The entries of the page in place, and three cells trained: both new, each new with an old one."""
    copy = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "src", copy / "src")
    working = WorkingFolder.make(copy / "work")
    for name, table, text in BLOCKS:
        path = working.folder / name if name.endswith(".yaml") else copy / name
        assert path.exists() == bool(table)
        path.write_text(with_entry(path.read_text(), table, text) if table else text)
    space = Extended(working.folder, {**working.environment, "PYTHONPATH": str(copy / "src")})
    for model, task, length in CELLS:
        options = ("--model", model, "--task", task, "--length", str(length), "--seed", "2024", "--device", "cpu")
        space.qablate("train", *options)
    return space


@pytest.mark.parametrize(("model", "task", "length"), CELLS)
def test_cells_are_trained(extended, model, task, length):
    record = json.loads(extended.result(model, task, length).read_text())
    assert (record["model_id"], record["task"], record["status"]) == (model, task, "ok")
    assert record["model_info"]["group"] == int(model[0])
    assert record["legacy"] is None
    assert set(record["metrics_extra"]) & {"majority_rate", "baseline_test"}


def test_the_dataset_passes_its_checks_and_those_of_every_task(extended):
    told = extended.qablate("dataset", "--task", "parity", "--length", "16", "--seed", "2024", "--check")
    assert re.findall(r"passed  (.*):", told) == [
        "labels not read off the input", "T8 repeated sequences", "T8 items not in exactly one part"]


def test_status_counts_the_cells_and_says_which_have_no_cost(extended):
    told = extended.qablate("status", "--no-queue", "--devices", "local=cpu")
    assert "3 of 24 cells done" in told
    assert re.search(r"^model +forr\. adding select\. Parity ", told, re.M)
    assert re.search(r"^5a C→C +0/3 +1/4 +0/4 +1/1 +2/12 ", told, re.M)
    fresh = extended.qablate("status", "--no-queue", "--devices", "local=cpu", "--set", '{"results": "results/none"}')
    assert re.search(r"^5a C→C .* \.\+\? *$", fresh, re.M)
    assert "+?: 12 cells have no cost estimate" in fresh


def test_a_dry_run_lists_what_is_missing(extended):
    done = extended.run("snakemake", "-n", "--configfile", "workflow/studies/parity.yaml")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "24 cells, 3 done, 21 to train" in told
    assert "train 5a on selective_copy, length 100, seed 2024 (missing)" in told
    assert "on parity" not in told


def test_results_of_another_system_are_imported(extended):
    shutil.copytree(extended.result(*CELLS[0]).parent, extended.folder / "elsewhere", dirs_exist_ok=True)
    settings = {"systems": {"dgx": {"results": "elsewhere"}}, "results": "results/other",
                "import": {"quarantine": [{"task": "parity", "model": "3a", "reason": "example"}]}}
    extended.qablate("import", "--set", json.dumps(settings))
    with (extended.folder / "results/other/imported/index.csv").open(newline="") as file:
        found = {(row["model"], row["task"]): row["status"] for row in csv.DictReader(file)}
    assert found == {("5a", "parity"): "ok", ("3a", "parity"): "quarantined", ("5a", "adding_problem"): "ok"}


@pytest.mark.parametrize(("task", "words"), [
    ({"lengths": [16], "n_marks": 3}, "tasks.parity.n_marks: unknown key, did you mean 'n_marked'?"),
    ({"n_marked": 65}, "tasks.parity.n_marked: 65 is not allowed (maximum: 64)"),
    ({"lengths": [2]}, "tasks.parity.lengths: 2 is shorter than its 3 marked"),
])
def test_settings_of_the_task_are_checked(extended, task, words):
    done = extended.run("qablate.cli", "status", "--config", "workflow/studies/parity.yaml", "--set",
                        json.dumps({"tasks": {"parity": task}}))
    assert (done.returncode, done.stderr) == (2, f"qablate: {words}\n")


def test_a_generator_at_odds_with_its_entry_is_one_line(extended, tmp_path):
    shutil.copytree(Path(extended.environment["PYTHONPATH"]), tmp_path / "src")
    path = tmp_path / "src/qablate/tasks/parity.py"
    right = path.read_text()
    other = Extended(extended.folder, {**extended.environment, "PYTHONPATH": str(tmp_path / "src")})
    for old, new, words in [
        (".astype(np.float32)", "", "parity: sequences came out as int64 (200, 16, 2), expected float32 (200, 16, 2)"),
        (".sum(axis=1) % 2)", ".sum(axis=1) % 3)", "parity: labels other than 0 and 1 came out"),
        ("GENERATOR", "OTHER", "task parity: qablate/tasks/parity.py must hold a GENERATOR"),
    ]:
        path.write_text(right.replace(old, new))
        done = other.run("qablate.cli", "dataset", "--config", "workflow/studies/parity.yaml", "--task", "parity",
                         "--length", "16", "--seed", "2024")
        assert (done.returncode, done.stderr) == (2, f"qablate: {words}\n")


def test_the_report_shows_both(extended):
    extended.qablate("report", "--partial")
    told = (extended.folder / "results/parity/progress_report.md").read_text()
    assert "Parity" in told
    assert "5a" in told
