"""What is printed: 80 columns, no colours into a pipe, stable JSON, plain errors."""

import io
import json
import re

import pytest
import yaml
from factories import record_of, small_study
from rich.console import Console
from status_traces import COSTS, OTHER_DEVICE, comment, epoch, event, look

from qablate import logs
from qablate.catalog import MODELS, TASKS
from qablate.cli import main
from qablate.hours import to_csv
from qablate.records import write_record
from qablate.status.screen import screen
from qablate.status.survey import STATES
from qablate.study import Study

START = event("start", cell="x")
CELL_KEYS = ["model", "task", "length", "seed", "name", "system", "state", "to_train", "epoch", "reason", "outcome",
             "job", "hours_left", "hours_at_most"]
SUM_KEYS = ["planned", *STATES, "hours_left", "hours_at_most", "cells_of_unknown_cost"]


@pytest.fixture
def busy(study, traces, squeue):
    """A study with cells in every state."""
    for cell in study.cells[:6]:
        traces.result(cell)
    for cell in study.cells[6:9]:
        traces.log(cell, START, epoch(1), event("checkpoint", epoch=2, batch=1), epoch(2))
    for cell in study.cells[9:21]:
        traces.log(cell, START, event("fail", reason="out of memory \x1b[31m[red]" + "long " * 80))
    for cell in study.cells[21:24]:
        traces.checkpoint(cell)
    study.result_path(study.cells[24]).write_text("[")
    squeue.answers(*((str(at), "PENDING", comment(cell)) for at, cell in enumerate(study.cells[25:31])))
    return study


def arguments(study: Study, tmp_path, *more: str) -> list[str]:
    """The command line for a study whose settings are all in one --set."""
    config, costs = tmp_path / "whole.yaml", tmp_path / "costs.csv"
    config.write_text(yaml.safe_dump({**study.config, "results": str(study.results)}, sort_keys=False))
    costs.write_bytes(to_csv(COSTS))
    return ["status", "--config", str(config), "--cost-table", str(costs), *more]


def test_80_columns_and_no_colours_in_a_pipe(busy, tmp_path, capsys):
    assert main(arguments(busy, tmp_path)) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text and "[red]" in text
    assert "6 of 36 cells done; 3 running, 6 queued, 3 checkpoint, 12 failed, 1 unreadable, 5 missing" in " ".join(
        text.split())
    assert "and 4 more" in text and "queue: 6 jobs of cells" in text


def test_a_narrow_terminal_and_a_wide_one(busy):
    for width in (40, 80, 200):
        out = io.StringIO()
        Console(file=out, width=width, force_terminal=True, highlight=False).print(screen(look(busy)))
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
        assert max(map(len, plain.splitlines())) <= width
        assert out.getvalue() != plain


def test_two_systems_fit_a_terminal_of_24_lines(tmp_path, capsys):
    """All models of the published study, one system of mostly unknown cost: what is at work comes below."""
    (tmp_path / "dgx").mkdir()
    study = small_study(tmp_path / "r", models=list(MODELS), systems={"dgx": {"results": str(tmp_path / "dgx")}},
                        assign={"forrelation": "dgx"})
    for cell in [cell for cell in study.cells if cell.task == "forrelation"][:5]:
        write_record(tmp_path / "dgx" / cell.result_name, record_of(study, cell, provenance={"source": "dgx"}))
    assert main(arguments(study, tmp_path, "--devices", "local=cpu", f"dgx={OTHER_DEVICE}")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    on_dgx, on_local, total = (next(line for line in lines if line.startswith(start))
                               for start in ("on dgx", "on local", "all "))
    assert on_dgx.split()[2:6] == ["5/48", "-", "-", "5/48"]
    assert on_local.split()[2:6] == ["-", "0/48", "0/48", "0/96"]
    assert total.split()[1:5] == ["5/48", "0/48", "0/48", "5/144"]
    assert f"{OTHER_DEVICE} (dgx)" in " ".join(lines)


def test_the_hours_of_one_system_are_named_after_its_device(tmp_path, capsys):
    study = small_study(tmp_path / "r", systems={"dgx": {"results": str(tmp_path)}}, assign=dict.fromkeys(TASKS, "dgx"))
    assert main(arguments(study, tmp_path, "--devices", f"dgx={OTHER_DEVICE}")) == 0
    assert f"else of: {OTHER_DEVICE}" in " ".join(capsys.readouterr().out.split())


def test_json_is_stable(busy, tmp_path, capsys):
    assert main(arguments(busy, tmp_path, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["version", "qablate", "study", "system", "taken_utc", "queue", "total", "groups", "cells"]
    assert found["version"] == 1
    assert list(found["queue"]) == ["reachable", "jobs", "others", "note"]
    assert list(found["total"]) == SUM_KEYS
    assert all(list(group) == ["system", "model", "task", *SUM_KEYS] for group in found["groups"])
    assert all(list(cell) == CELL_KEYS for cell in found["cells"])
    assert [cell["name"] for cell in found["cells"]] == [cell.name for cell in busy.cells]
    for key in ("planned", *STATES):
        assert sum(group[key] for group in found["groups"]) == found["total"][key]
    assert sum(found["total"][state] for state in STATES) == found["total"]["planned"] == len(busy.cells)


def test_missing_is_empty_when_all_is_done(study, traces, tmp_path, capsys):
    for cell in study.cells:
        traces.result(cell)
    assert main(arguments(study, tmp_path, "--missing")) == 0
    assert capsys.readouterr().out == ""
    assert main(arguments(study, tmp_path)) == 0
    assert "hours left" not in capsys.readouterr().out


@pytest.mark.parametrize(("options", "words"), [
    (["--watch", "0"], "1 to 86400"),
    (["--watch", "nan"], "1 to 86400"),
    (["--devices", "dgx"], "SYSTEM=VALUE"),
    (["--devices", "dgx=GB9"], "--devices dgx=GB9: not in the cost table; there are "),
    (["--devices", "moon=GB10"], "known are dgx, local, nersc"),
    (["--profile", "no/profile"], "no/profile: no profile that Snakemake finds"),
    (["--cost-table", "none.csv"], "none.csv: cannot read costs"),
])
def test_wrong_options_are_one_line(study, tmp_path, capsys, options, words):
    assert main(arguments(study, tmp_path, *options)) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("qablate: ") and error.count("\n") == 1


def test_a_profile_names_the_system(study, tmp_path, capsys):
    study.config["assign"] = {"forrelation": "dgx"}
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("cores: 1\nconfig: {system: dgx}\n")
    for option, n_missing in (([], 24), (["--profile", str(profile)], 36)):
        assert main(arguments(study, tmp_path, *option, "--missing")) == 0
        assert capsys.readouterr().out.count("\n") == n_missing
    (profile / "config.yaml").write_text("config: [system=dgx]\n")
    assert main(arguments(study, tmp_path, "--profile", str(profile))) == 2
    assert "config must be a mapping" in capsys.readouterr().err


def test_a_profile_is_found_as_snakemake_finds_it(study, tmp_path, capsys, monkeypatch):
    home, here = tmp_path / "home/snakemake/mine", tmp_path / "here"
    for file, system in ((home / "config.v8+.yaml", "nersc"), (home / "config.yaml", "dgx"), (here / "any.yaml", "dgx"),
                         (home / "config.v999+.yaml", "dgx"), (here / "profiles/old/config.yaml", "dgx")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"config: {{system: {system}}}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here)
    for profile, system in (("mine", "nersc"), ("profiles/old", "dgx"), ("any.yaml", "dgx"), ("none", "local"),
                            ("", "local")):
        monkeypatch.setenv("SNAKEMAKE_PROFILE", profile)
        assert main(arguments(study, tmp_path)) == 0
        assert f"study small on {system}" in capsys.readouterr().out


def test_watching_prints_again_until_interrupted(study, tmp_path, capsys, monkeypatch):
    naps = iter([0, 5])

    def sleep(seconds):
        if next(naps, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("qablate.status.screen.time.sleep", sleep)
    assert main(arguments(study, tmp_path, "--watch", "5")) == 0
    assert capsys.readouterr().out.count("study small on local") == 2


# ---- the log


@pytest.mark.parametrize(("kind", "row", "text"), [
    ("regression", {"train_loss": 0.001222, "val_loss": 0.0011}, "Train MSE: 0.001222 | Val MSE: 0.001100"),
    ("classification", {"train_loss": 0.6931, "train_metric": 0.5012, "val_loss": 0.693, "val_metric": 0.515},
     "Train: 0.6931/0.5012 | Val: 0.6930/0.5150"),
])
@pytest.mark.parametrize(("seconds", "left"), [
    (None, ""), (50.4, " | at most 50 s left"), (720, " | at most 12 min left"), (12345, " | at most 3.4 h left"),
])
def test_the_line_of_an_epoch_is_the_published_one_with_the_time_left(capsys, kind, row, text, seconds, left):
    logs.say_epoch(kind, 10, 100, 38.2, True, row, seconds)
    assert capsys.readouterr().out == f"Epoch  10/100 (38.2s) * | {text}{left}\n"
