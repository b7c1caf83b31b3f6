"""The state of every cell, from each kind of trace; sums equal the grid; what status says is what a dry run says."""

import os
import platform
import subprocess
from itertools import product

import pytest
from factories import record_of, small_study, write_results
from status_traces import COSTS, at, comment, epoch, event, look
from working_folder import WorkingFolder

from qablate.analysis.collect import collect
from qablate.hours import CostRow, CostTable, Hours
from qablate.logs import TAIL_BYTES, read_tail
from qablate.status.screen import missing_lines
from qablate.status.survey import counts, hours, survey

START = event("start", cell="x")


def test_every_state_from_its_trace(study, traces, squeue):
    done, running, queued, checkpoint, failed, stale, unreadable, waiting, diverged = study.cells[:9]
    traces.result(done)
    traces.result(diverged, status="diverged")
    traces.log(running, START, epoch(1), event("checkpoint", epoch=2, batch=3), epoch(2))
    traces.log(checkpoint, START, epoch(1), event("checkpoint", epoch=2, batch=3), event("stop", reason="SIGTERM"))
    traces.checkpoint(checkpoint)
    traces.log(failed, START, event("fail", reason="out of memory"))
    traces.checkpoint(failed)
    traces.result(stale, model_config={"model_code_version": 99})
    traces.checkpoint(stale)
    study.result_path(unreadable).write_text("{")
    squeue.answers(("11", "PENDING", comment(queued)), ("12", "RUNNING", comment(waiting)),
                   ("13", "COMPLETING", comment(done)))    # finished stays finished, whatever the queue says
    found = look(study)
    states = {status.cell: status for status in found.cells}
    assert [states[cell].state for cell in study.cells[:9]] == [
        "done", "running", "queued", "checkpoint", "failed", "stale", "unreadable", "running", "done"]
    assert (states[running].epoch, states[checkpoint].epoch) == (2, 2)
    untouched = {(states[cell].state, states[cell].reason, states[cell].to_train) for cell in study.cells[9:]}
    assert untouched == {("missing", "never started", True)}
    assert states[checkpoint].reason == "stopped: SIGTERM"
    assert states[failed].reason == "out of memory"
    assert "model_code_version" in states[stale].reason
    assert (states[queued].job, states[queued].reason, states[waiting].job) == ("11", "Priority", "12")
    assert (states[done].outcome, states[diverged].outcome) == ("ok", "diverged")
    assert sum(counts(found.cells).values()) == len(study.cells)


def test_a_report_says_of_a_cell_what_status_says(study, traces):
    """Of every mixture of a result, a log and a checkpoint, when nothing runs."""
    logs = [(), (START,), (START, event("stop", reason="SIGTERM")), (START, event("fail", reason="disk full"))]
    for cell, (result, lines, saved) in zip(study.cells, product(("", "stale", "unreadable"), logs, (False, True)),
                                            strict=False):
        if result == "stale":
            traces.result(cell, model_config={"model_code_version": 99})
        elif result:
            study.result_path(cell).write_text("{")
        if lines:
            traces.log(cell, *lines, age=10**6)
        if saved:
            traces.checkpoint(cell)
    told = {status.cell: status.state for status in look(study).cells[:24]}
    reported = collect(study).cells.set_index(["model", "task", "length", "seed"])["state"]
    assert set(told.values()) == {"missing", "checkpoint", "failed", "stale", "unreadable"}
    assert {cell: reported[(cell.model, cell.task, cell.length, cell.seed)] for cell in told} == told


def test_missing_is_what_snakemake_lists(tmp_path):
    place = WorkingFolder.make(tmp_path / "study", models=["1b", "3a"], tasks={"adding_problem": {"lengths": [16]}},
                               assign={"overrides": [{"system": "dgx", "models": ["3a"], "seeds": [2025]}]})
    study = place.study
    write_results(study, study.cells[:2])
    study.result_path(study.cells[1]).write_text("{")
    listed = [(*map(str, vars(cell).values()), state) for cell, state in place.run("-n", PATH=os.defpath).cells.items()]
    lines = [line.split("\t") for line in missing_lines(look(study))]
    assert sorted(listed) == sorted(tuple(line[:5]) for line in lines)
    assert 0 < len(listed) < len(study.cells) and {len(line) for line in lines} == {7}


def test_a_dead_process_of_this_machine_does_not_run(study, traces):
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    gone = {"host": platform.node(), "pid": process.pid}
    others = ({**gone, "host": "elsewhere"}, {**gone, "pid": os.getpid()})
    for cell, who in zip(study.cells, (gone, *others), strict=False):
        traces.log(cell, event("start", **who), event("checkpoint", epoch=1, batch=5))
        traces.checkpoint(cell)
    found = look(study)
    assert [at(found, cell).state for cell in study.cells[:3]] == ["checkpoint", "running", "running"]
    assert at(found, study.cells[0]).reason == "its process is gone"


@pytest.mark.parametrize(("seconds", "age", "state"), [
    (30.0, 900, "running"),        # within the checkpoint interval of 600 s, half as much again and two minutes
    (30.0, 1100, "checkpoint"),
    (4000.0, 9000, "running"),     # its epochs take longer
    (4000.0, 13000, "checkpoint"),
])
def test_silence_ends_running(study, traces, seconds, age, state):
    cell = study.cells[0]
    traces.log(cell, START, epoch(1, seconds), event("checkpoint", epoch=2, batch=0), age=age)
    traces.checkpoint(cell)
    status = at(look(study), cell)
    assert status.state == state
    assert (status.reason == "") == (state == "running") and (state == "running" or "silent for" in status.reason)


def test_a_cell_of_many_epochs_runs(study, traces):
    cell = study.cells[0]
    traces.log(cell, START, *(epoch(n, 1.0) for n in range(1, 10_001)), age=60)
    assert at(look(study), cell).state == "running"


def test_a_checkpoint_is_seen_and_never_unpickled(study, traces):
    traces.checkpoint(study.cells[0], ".previous")
    traces.checkpoint(study.cells[1]).chmod(0)
    for cell in study.cells[:2]:
        status = at(look(study), cell)
        assert (status.state, status.epoch, status.reason) == ("checkpoint", None, "no log")


def test_a_checkpoint_of_the_assigned_system(tmp_path):
    study = small_study(tmp_path / "r", systems={"dgx": {"results": str(tmp_path / "dgx")}},
                        assign={"adding_problem": "dgx"})
    folder = tmp_path / "dgx" / "checkpoints"
    folder.mkdir(parents=True)
    cells = [cell for cell in study.cells if cell.task != "selective_copy"][::24]
    for cell in cells:
        (folder / f"checkpoint_{cell.name}.pt").touch()
    found = look(study)
    for cell in cells:
        mine = cell.task != "adding_problem"    # a checkpoint elsewhere is of no use to a cell that is trained here
        assert at(found, cell).state == ("missing" if mine else "checkpoint")
        assert at(found, cell).to_train == mine


@pytest.mark.parametrize("content", [
    b"", b"\x00" * 100_000, bytes(range(256)) * 400, b"@qablate " + b"[" * 100_000, b"@qablate {\"event\": [1]}\n",
    b"@qablate {\"event\": \"checkpoint\", \"epoch\": 1e400}\n@qablate {\"event\": \"resume\", \"epoch\": true}\n",
    b"Epoch " + b"9" * 70_000 + b"/6 (1.0s)", b"@qablate {\"event\": \"fail\", \"reason\": {\"a\": \"\x1b[31m\"}}\n",
    b"@qablate {\"event\": \"start\", \"pid\": " + b"9" * 5000 + b"}\n",
    b"@qablate {\"event\": \"checkpoint\", \"epoch\": -7}",
])
def test_hostile_logs(study, traces, content):
    cell = study.cells[0]
    traces.log(cell).write_bytes(content)
    traces.checkpoint(cell)
    found = at(look(study), cell)
    assert found.state in ("checkpoint", "failed", "running") and found.reason.isprintable()
    assert found.epoch is None


def test_only_the_end_of_a_log_is_read(tmp_path):
    path = tmp_path / "huge.log"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)      # sparse: 20 GiB that would take minutes to read
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + epoch(5).encode() + b"\n")
    tail = read_tail(path)
    assert (tail.last_epoch, tail.seconds) == (5, [30.0])
    path.write_text(epoch(4) + "\n" + "x" * TAIL_BYTES)
    assert read_tail(path).last_epoch == 0


# ---- the queue


def test_jobs_that_are_not_cells_are_counted_apart(study, squeue):
    cell = study.cells[0]
    squeue.answers(("1", "RUNNING", comment(cell)), ("2", "PENDING", comment(cell)), ("3", "RUNNING", "rule_dataset"),
                   ("4", "COMPLETED", comment(study.cells[1])), ("5", "PENDING", comment(cell).replace("2024", "1999")))
    found = look(study)
    assert (at(found, cell).state, at(found, cell).job) == ("running", "1")
    assert counts(found.cells)["running"] == 1 and counts(found.cells)["queued"] == 0
    assert (len(found.queue.jobs), found.queue.others) == (1, 2)
    assert len(squeue.calls.read_text().splitlines()) == 1     # one query for all


def test_without_a_queue_nothing_fails(study, squeue):
    assert (look(study).queue.reachable, look(study).queue.note) == (False, "")
    study.config["jobs"]["max_minutes"] = 60    # settings for Slurm
    assert look(study).queue.note == "queue unknown: there is no squeue here"
    squeue.answers(("1", "RUNNING", comment(study.cells[0])))
    assert not look(study, ask_slurm=False).queue.reachable
    assert look(study).queue.reachable


@pytest.mark.parametrize(("last", "note"), [
    ("", "exit code 1"),
    ("squeue: fatal: Could not establish a configuration source", "squeue is here, but belongs to no cluster"),
    ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
     "Unable to contact slurm controller (connect failure)"),
])
def test_a_queue_that_cannot_be_asked_is_one_line(study, squeue, last, note):
    squeue.says(f"echo 'squeue: error: first\n{last}' >&2; exit 1" if last else "exit 1")
    assert (look(study).queue.reachable, look(study).queue.note) == (False, f"queue unknown: {note}")
    assert len(look(study).queue.note) <= 80


def test_a_queue_that_prints_anything(study, squeue):
    elsewhere = f"1|RUNNING|syn_x|r|/somewhere/else|{comment(study.cells[0])}"
    squeue.says(f"printf '\\377\\000|||||||||\\nsyn|RUNNING\\n\\n1|RUNNING|syn_x|r|/|\\n{elsewhere}\\n'")
    found = look(study)
    assert (len(found.queue.jobs), found.queue.others, counts(found.cells)["running"]) == (0, 2, 0)


# ---- hours


def test_hours_come_from_the_cost_table(study):
    total, unknown = hours(look(study).cells)
    per_cell = 36 / 3600 * 200 / 5000 * 6      # seconds an epoch, scaled to 200 items, 6 epochs at most
    longer = 2                                 # length 32 from the row of 16
    assert total.at_most == pytest.approx(len(study.cells) / 2 * per_cell * (1 + longer))
    assert unknown == 0


def test_own_epochs_and_results_go_before_the_table(study, traces):
    cell, twin = (study.cell("1b", "adding_problem", 16, seed) for seed in (2024, 2025))
    record = traces.result(twin)
    assert at(look(study), cell).left.at_most == pytest.approx(
        record["training"]["seconds_per_epoch_median"] * 6 / 3600)
    assert at(look(study), cell).left.expected == pytest.approx(
        record["training"]["seconds_per_epoch_median"] * record["epochs_trained"] / 3600)
    traces.log(cell, START, epoch(1, 100.0), epoch(2, 120.0), epoch(3, 300.0))
    assert at(look(study), cell).left.at_most == pytest.approx(120 * 3 / 3600)


def test_expected_epochs_are_those_that_others_used(study, traces):
    cell = study.cell("1b", "adding_problem", 16, 2024)
    record = {**traces.result(cell), "epochs_trained": 4, "training": {"seconds_per_epoch_median": 3600.0}}
    costs = Hours(study, COSTS, [("local", record)])
    left = [costs.time_left("local", cell, done) for done in (0, 1, 3, 5, 6)]
    assert [hours.expected for hours in left] == pytest.approx([4, 3, 1, 1, 0])
    assert [hours.at_most for hours in left] == pytest.approx([6, 5, 3, 1, 0])


def test_hours_of_a_stopped_cell_are_those_after_its_checkpoint_and_of_a_stale_one_all(study, traces):
    stopped, stale = (study.cell("1b", "adding_problem", 16, seed) for seed in (2024, 2025))
    for cell in (stopped, stale):
        traces.log(cell, START, *map(epoch, (1, 2, 3)), event("checkpoint", epoch=3, batch=5), event("stop"))
        traces.checkpoint(cell)
    traces.result(stale, model_config={"model_code_version": 99})
    left = [at(look(study), cell).left.at_most for cell in (stopped, stale)]
    assert left == pytest.approx([4 * 30 / 3600, 6 * 30 / 3600])    # of 6 epochs, 30 s each


def test_a_system_has_the_device_that_its_results_name(study):
    cell = study.cell("1b", "adding_problem", 16, 2024)
    costs = CostTable([CostRow("a GPU", cell.model, cell.task, 16, 5000 / 200, 6, "measured")])
    record = {**record_of(study, study.cell("3a", "adding_problem", 16, 2024)), "provenance": {"device_name": "a GPU"}}
    assert Hours(study, costs, [("dgx", record)]).estimate("dgx", cell).seconds == 6
    assert Hours(study, costs).estimate("dgx", cell) is None


def test_an_unknown_cost_is_said_so(study):
    total, unknown = hours(survey(study, CostTable([])).cells)
    assert (total.expected, total.at_most, unknown) == (0, 0, len(study.cells))
    assert hours(look(study, devices={"local": "NVIDIA GB10"}).cells)[1] == len(study.cells)
