"""What is printed: 80 columns, no colours into a pipe, stable JSON, curves, a division of the work, plain errors."""

import io
import json
import re

import pytest
import yaml
from factories import small_study
from rich.console import Console
from status_traces import COSTS, comment, epoch, event, look
from tiny import tiny_study, with_dataset

from qablate.cli import main
from qablate.config import check_config, merge
from qablate.costs import CostTable, to_csv
from qablate.results.logs import parse_log, read_log
from qablate.status.curves import Curves, named_cell, read_curves, text_plot, write_png
from qablate.status.screen import screen
from qablate.status.split import suggest_split
from qablate.status.survey import STATES
from qablate.study import Study
from qablate.training import log
from qablate.training.cell import train_cell

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


def test_rows_of_the_table_add_up(busy, tmp_path, capsys):
    main(arguments(busy, tmp_path))
    lines = capsys.readouterr().out.splitlines()
    number = {".": 0}
    rows = [[number.get(part, part) for part in line.split()] for line in lines if re.match(r"(1b|2d|3a) ", line)]
    total = next(line.split() for line in lines if line.startswith("all  "))
    assert len(rows) == 3
    for column in range(-6, -1):
        assert sum(int(row[column]) for row in rows) == int(number.get(total[column], total[column]))
    assert total[-7] == f"6/{len(busy.cells)}"
    assert sum(int(number.get(part, part)) for part in total[-6:-1]) == len(busy.cells) - 6


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
    (["--png", "x.png"], "--curves"),
    (["--curves", "9z_nothing"], "no cell of study 'small'"),
    (["--curves", "1b_adding_problem_L16_seed2024"], "no result, and no epoch in"),
    (["--watch", "0"], "1 to 86400"),
    (["--watch", "nan"], "1 to 86400"),
    (["--suggest-split", "--slots", "dgx"], "SYSTEM=VALUE"),
    (["--suggest-split", "--slots", "dgx=0"], "1 to 100000"),
    (["--suggest-split", "--slots", "moon=3"], "known are dgx, local, nersc"),
    (["--devices", "moon=GB10"], "known are dgx, local, nersc"),
    (["--profile", "no/profile"], "no/profile/config.yaml: cannot read"),
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
    for option, system, n_missing in (([], "local", 24), (["--profile", str(profile)], "dgx", 36)):
        assert main(arguments(study, tmp_path, *option)) == 0
        assert f"study small on {system}" in capsys.readouterr().out
        assert main(arguments(study, tmp_path, *option, "--missing")) == 0
        assert capsys.readouterr().out.count("\n") == n_missing
    (profile / "config.yaml").write_text("config: [system=dgx]\n")
    assert main(arguments(study, tmp_path, "--profile", str(profile))) == 2
    assert "config must be a mapping" in capsys.readouterr().err


def test_watching_prints_again_until_interrupted(study, tmp_path, capsys, monkeypatch):
    naps = iter([0, 5])

    def sleep(seconds):
        if next(naps, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("qablate.status.screen.time.sleep", sleep)
    assert main(arguments(study, tmp_path, "--watch", "5")) == 0
    assert capsys.readouterr().out.count("study small on local") == 2


# ---- dividing the work


def systems_study(tmp_path, **changes) -> Study:
    systems = {"dgx": {"results": str(tmp_path / "dgx")}}
    return small_study(tmp_path / "r", models=["1b", "3a"], systems=systems, **changes)


@pytest.fixture
def two_systems(tmp_path):
    (tmp_path / "dgx").mkdir()
    return systems_study(tmp_path)


def test_the_division_is_a_valid_config_that_says_the_same(two_systems, squeue, tmp_path):
    begun = two_systems.cells[5]
    squeue.answers(("1", "RUNNING", comment(begun)))
    split = suggest_split(look(two_systems, devices={"dgx": "cpu"}), {"dgx": 3})
    shared = [cell for share in split.shares for cell in share.cells]
    assert sorted(shared) == sorted(two_systems.cells) and not split.unknown
    written = yaml.safe_load(split.to_yaml())
    divided = Study(check_config(merge(two_systems.config, written)))
    for share in split.shares:
        assert share.cells and {divided.assigned_to(cell) for cell in share.cells} == {share.system}
    assert divided.assigned_to(begun) == "local"
    assert max(map(len, split.to_yaml().splitlines())) <= 80


def test_the_division_ends_together(two_systems):
    split = suggest_split(look(two_systems, devices={"dgx": "cpu"}), {"dgx": 3})
    shares = {share.system: share for share in split.shares}
    group = max(left.at_most for left in (status.left for status in look(two_systems).cells)) * 4
    assert shares["dgx"].hours > shares["local"].hours > 0
    assert abs(shares["dgx"].wall_hours - shares["local"].wall_hours) <= group


def test_a_system_of_unknown_cost_gets_nothing(two_systems):
    shares = {share.system: share for share in suggest_split(look(two_systems)).shares}
    assert len(shares["local"].cells) == len(two_systems.cells)
    assert "dgx" not in shares or not shares["dgx"].cells


def test_cells_of_unknown_cost_stay_unassigned(two_systems, tmp_path, capsys):
    options = arguments(two_systems, tmp_path, "--suggest-split")
    (tmp_path / "costs.csv").write_bytes(to_csv(CostTable([])))
    assert main(options) == 0
    text = capsys.readouterr().out
    assert f"{len(two_systems.cells)} cells stay unassigned" in text and "assign: {}" in text


# ---- curves and the log


@pytest.mark.parametrize(("kind", "row", "text"), [
    ("regression", {"train_loss": 0.001222, "val_loss": 0.0011}, "Train MSE: 0.001222 | Val MSE: 0.001100"),
    ("classification", {"train_loss": 0.6931, "train_metric": 0.5012, "val_loss": 0.693, "val_metric": 0.515},
     "Train: 0.6931/0.5012 | Val: 0.6930/0.5150"),
])
@pytest.mark.parametrize(("seconds", "left"), [
    (None, ""), (50.4, " | at most 50 s left"), (720, " | at most 12 min left"), (12345, " | at most 3.4 h left"),
])
def test_the_line_of_an_epoch_is_the_published_one_with_the_time_left(capsys, tmp_path, kind, row, text, seconds, left):
    log.epoch_line(kind, 10, 100, 38.2, True, row, seconds)
    line = capsys.readouterr().out
    assert line == f"Epoch  10/100 (38.2s) * | {text}{left}\n"
    parsed = parse_log([line.rstrip("\n")], tmp_path)
    published = parse_log([f"Epoch  10/100 (38.2s) * | {text}"], tmp_path)
    assert parsed.rows == published.rows != [] and parsed.epochs == [10]


def test_a_real_training_tells_its_time_left_and_its_curves(tmp_path, capsys):
    study = tiny_study(tmp_path / "results")
    cell = with_dataset(study)
    assert train_cell(study, cell, study.result_path(cell)) == 0
    text = capsys.readouterr().out
    path = study.results / "logs" / "train" / f"{cell.name}.log"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    lines = [line for line in text.splitlines() if line.startswith("Epoch ")]
    assert len(lines) == 6
    assert all(re.search(r" \| at most \d+ s left$", line) for line in lines[:-1]) and "left" not in lines[-1]
    assert len(read_log(path).rows) == 6
    finished = read_curves(study, cell)
    study.result_path(cell).unlink()
    running = read_curves(study, cell)
    assert running.epochs == finished.epochs == (1, 2, 3, 4, 5, 6)
    assert running.validation == pytest.approx(finished.validation, abs=1e-6)
    assert (running.best, running.label) == (finished.best, "MSE")
    assert (finished.source.suffix, running.source.suffix) == (".json", ".log")


def test_curves_of_a_resumed_training_are_whole(study, traces):
    cell = study.cell("1b", "adding_problem", 16, 2024)
    header = "Model ID: 1b (QuantumMambaSSM)"
    traces.log(cell, header, START, epoch(1), epoch(2), epoch(3), event("fail", reason="x"),    # an earlier training
               header, START, epoch(1), epoch(2), event("stop", reason="SIGTERM"),
               header, event("resume", epoch=3, batch=0), epoch(3), "Epoch   4/6 (30")
    assert read_curves(study, cell).epochs == (1, 2, 3)


def test_the_plot_has_each_value_in_its_place(study):
    cell = study.cell("1b", "adding_problem", 16, 2024)
    curves = Curves(cell, tuple(range(1, 69)), (None,) * 68, tuple(10.0 ** (-3 * at / 67) for at in range(68)), "x")
    lines = text_plot(curves)
    assert max(map(len, lines)) <= 80 and curves.logarithmic
    body = [line[11:] for line in lines if len(line) > 10 and line[10] == "|"]
    assert len(body) == 16
    marked = {(column, row) for row, line in enumerate(body) for column, sign in enumerate(line) if sign != " "}
    assert marked == {(column, round(column / 67 * 15)) for column in range(68)}    # a straight line on a log axis
    assert body[-1][67] == "◆"
    assert "\n".join(text_plot(curves, ascii_only=True)).isascii()


@pytest.mark.parametrize("values", [(None,), (0.5,), (0.0, 0.0), (1e30, None, 1e-30), (None, None)])
def test_odd_curves_are_drawn(study, tmp_path, values):
    cell = study.cell("1b", "adding_problem", 16, 2024)
    curves = Curves(cell, tuple(range(1, len(values) + 1)), values, values, "x")
    assert max(map(len, text_plot(curves))) <= 80
    write_png(curves, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_is_named_by_any_of_its_files(study):
    cell = study.cells[3]
    for name in (cell.name, cell.result_name, f"logs/{cell.name}.log", f"checkpoint_{cell.name}.pt"):
        assert named_cell(study, name) == cell


def test_curves_on_the_command_line(study, traces, tmp_path, capsys):
    cell = study.cells[0]
    traces.result(cell)
    png = tmp_path / "curve.png"
    assert main(arguments(study, tmp_path, "--curves", cell.name)) == 0
    assert "epoch" in capsys.readouterr().out
    assert main(arguments(study, tmp_path, "--curves", cell.name, "--png", str(png))) == 0
    assert png.exists() and capsys.readouterr().out.startswith(str(png))
