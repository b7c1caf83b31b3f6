"""Studies in every state, built in code: results, logs, checkpoints, and a stand-in for squeue on PATH."""

import json
import os
import time
from pathlib import Path

import pytest
from factories import write_results

from qablate.hours import CostRow, CostTable
from qablate.status.survey import Survey, survey
from qablate.study import Cell, Study

OTHER_DEVICE = "published code on A100-SXM4-80GB"
COSTS = CostTable([
    CostRow(OTHER_DEVICE, "1b", "forrelation", 16, 36.0, None, "logs"),
    *(CostRow("cpu", model, task, 16, 36.0, None, "measured")
      for model in ("1b", "3a", "2d") for task in ("adding_problem", "selective_copy")),
])


def event(name: str, **facts) -> str:
    return "@qablate " + json.dumps({"event": name, **facts})


def epoch(number: int, seconds: float = 30.0, limit: int = 6) -> str:
    return (f"Epoch {number:3d}/{limit} ({seconds:.1f}s) * | Train MSE: 0.{170000 - number:06d} | "
            f"Val MSE: 0.{160000 - number:06d} | at most 2 min left")


class Traces:
    """Writes what trainings leave behind, where the study looks for it."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def log(self, cell: Cell, *lines: str, age: float = 0.0) -> Path:
        path = self.study.results / "logs" / "train" / f"{cell.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        os.utime(path, (time.time() - age,) * 2)
        return path

    def checkpoint(self, cell: Cell, ending: str = "") -> Path:
        path = self.study.result_folder / "checkpoints" / f"checkpoint_{cell.name}.pt{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch /tmp/unpickled'\ntR.")    # would run if it were unpickled
        return path

    def result(self, cell: Cell, **changes) -> dict:
        return write_results(self.study, [cell], **changes)[0]


class FakeQueue:
    """A squeue on PATH that prints jobs, or fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program, self.calls = folder / "squeue", folder / "calls"
        monkeypatch.setenv("PATH", str(folder))

    def answers(self, *jobs: tuple[str, str, str]) -> None:
        """Each job: id, state, comment; all of this folder."""
        lines = [f"{number}|{state}|syn_1f0c-77|Priority|{os.getcwd()}|{comment}" for number, state, comment in jobs]
        text = "\n".join(lines)
        self.says(f"echo \"$@\" >> {self.calls}\n/bin/cat <<'END'\n{text}\nEND")

    def says(self, script: str) -> None:
        """What the program does, in the shell's words."""
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)


def comment(cell: Cell) -> str:
    return f"rule_train_wildcards_{cell.model}_{cell.task}_{cell.length}_{cell.seed}"


def look(study: Study, **options) -> Survey:
    return survey(study, COSTS, **options)


def at(found: Survey, cell: Cell):
    return next(status for status in found.cells if status.cell == cell)
