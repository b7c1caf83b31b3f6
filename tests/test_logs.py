"""Everything that is written to a training log is read back, however often the training stopped and went on."""

import dataclasses
import random

import pytest
from factories import record_of, small_study

from qablate import logs
from qablate.records import CURVES, METRICS


def write_log(study, record, path, places, capsys):
    """Log the training of a record, killed at each of `places`: in epoch `at`, with a checkpoint of epoch `back`."""
    cell = study.cell(record["model_id"], record["task"], record["seq_len"], record["seed"])
    spec, history = study.dataset(cell.task, cell.length, cell.seed), record["history"]
    logs.say_header(cell, spec, record["n_params"], "qablate train ...")
    logs.say_event("start", cell=cell.name, host="h", pid=1)
    epoch = 1
    for at, back in (*places, (len(history["epochs"]) + 1, 0)):
        while epoch < at:
            row = {key: history[key][epoch - 1] for key in CURVES}
            left = None if epoch % 3 == 0 else 100.0 * epoch
            logs.say_epoch(record["task_type"], epoch, record["hyperparameters"]["n_epochs"], 12.5, True, row, left)
            epoch += 1
        if back:
            logs.say_header(cell, spec, record["n_params"], "qablate train ...")
            logs.say_event("resume", epoch=back, batch=3, host="h", pid=2)
            logs.say_other_numbers({"threads": 1}, {"threads": 2})
            epoch = back
    logs.say_early_stop(epoch, 20)
    logs.say_results(record, str(path))
    logs.say_event("result", status=record["status"], file=path.name)
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return logs.read_log(path)


@pytest.mark.parametrize("task", ["adding_problem", "selective_copy", "forrelation"])
@pytest.mark.parametrize("status", ["ok", "diverged"])
def test_what_is_written_is_read_back(tmp_path, capsys, task, status):
    study = small_study(tmp_path, models=["1b-tanh"], variants={"tanh": {"model": {"circuit": "tanh"}}})
    draw = random.Random(1)
    cell = next(cell for cell in study.cells if cell.task == task)
    record = record_of(study, cell, status=status)
    n_epochs = record["epochs_trained"]
    for stops in range(4):
        ends = sorted(draw.randint(1, n_epochs) for _ in range(stops))
        places = [(at, draw.randint(1, at)) for at in ends]
        log = write_log(study, record, tmp_path / f"{stops}.log", places, capsys)
        assert (log.cell, log.name, log.last_epoch) == (cell, "result", n_epochs)
        assert log.complete and (status == "diverged" or log.agrees_with(record))
        read, digits = log.record(), 6 if record["task_type"] == "regression" else 4
        assert {key: read[key] for key in ("n_params", "epochs_trained", *cell.identity)} == {
            key: record[key] for key in ("n_params", "epochs_trained", *cell.identity)}
        assert read["training_time"] == pytest.approx(record["training_time"], abs=0.005)
        for key in ("best_val_metric", *METRICS[record["task_type"]][:3]):
            assert read[key] == pytest.approx(record[key], abs=0.5001 * 10**-(4 if key == "test_r2" else digits))
        assert read["history"]["epochs"] == record["history"]["epochs"]
        for key in ("train_loss", "val_loss", "val_metric"):
            assert read["history"][key] == [value if value is None else pytest.approx(value, abs=0.5001 * 10**-digits)
                                            for value in record["history"][key]]
        assert log.seconds == [12.5] * n_epochs and log.resumed_at == (places[-1][1] if places else 0)
        assert dataclasses.asdict(logs.read_tail(log.path)) == dataclasses.asdict(log)


@pytest.mark.parametrize(("lines", "curve"), [
    (["header 2024", "start", "1 0.3", "header 2024"], [(1, 0.3)]),     # ended before it could read the checkpoint
    (["header 2024", "start", "1 0.3", "2 0.2", "header 2025", "resume 3", "3 0.1"], [(3, 0.1)]),
    (["header 2024", "1 0.3", "2 0.2", "header 2024", "1 0.5"], [(1, 0.5)]),     # published: no events
    (["1 0.1", "2 0.2", "3 0.3", "4 0.4", "resume 2", "cut", "3 0.6", "1 0.7"], [(1, 0.1), (2, 0.2), (3, 0.6)]),
])
def test_where_a_training_begins(tmp_path, lines, curve):
    text = []
    for word, _, value in (line.partition(" ") for line in lines):
        text += ["Model ID: 1b (QuantumMambaSSM)", f"Seed: {value}"] if word == "header" else [
            f'@qablate {{"event": "{word}", "epoch": {value or 0}}}' if word in ("start", "resume") else
            "Epoch   2/9 (1.0s) |" if word == "cut" else
            f"Epoch {int(word):3d}/100 (1.0s) | Train MSE: 0.1 | Val MSE: {value}"]
    log = logs.parse_log(text, tmp_path)
    assert [(epoch, row[3]) for epoch, row in zip(log.epochs, log.rows, strict=True)] == curve
