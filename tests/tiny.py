"""A study small enough to train a cell in a second, its volatile parts, and a way to stop it."""

import copy
from pathlib import Path
from typing import Any

from factories import small_study

from qablate.records import companion
from qablate.results import read_record
from qablate.study import Cell, Study
from qablate.tasks.store import make_dataset
from qablate.training.interrupts import Interrupts

SMALL_MODEL = {"n_qubits": 3, "n_layers": 1, "d_model": 16, "d_state": 4, "n_heads": 2, "dropout": 0.1}
VOLATILE = ("provenance", "training_time", "timestamp", "content_sha256")


def tiny_study(results: Path, **changes) -> Study:
    study = small_study(results, model=SMALL_MODEL, data={"n_samples": 120}, legacy_metric=True, **changes)
    study.config["training"] |= {"max_epochs": 6, "patience": 6, "batch_size": 16}
    study.config["run"] |= {"device": "cpu", "checkpoint_interval_s": 1e9}
    return study


def with_dataset(study: Study, model: str = "1b", task: str = "adding_problem") -> Cell:
    cell = study.cell(model, task, 16, 2024)
    make_dataset(study.dataset(cell.task, cell.length, cell.seed), study.dataset_path(cell))
    return cell


def stable(record: dict) -> dict:
    """The parts of a record that must be equal between two runs of one cell."""
    kept = copy.deepcopy({key: value for key, value in record.items() if key not in VOLATILE})
    kept["training"].pop("n_resumes")
    kept["training"].pop("seconds_per_epoch_median")
    return kept


def files_of(study: Study, cell: Cell) -> tuple[dict[str, Any], bytes, bytes]:
    """Record without times and provenance, predictions, weights."""
    output = study.result_path(cell)
    record = stable(read_record(output))
    return record, *(companion(output, ending).read_bytes() for ending in ("predictions.npz", "model.pt"))


class StopAfter(Interrupts):
    """Asks to stop after a number of batches of this process."""

    def __init__(self, batches: int, *arguments) -> None:
        super().__init__(*(arguments or (1e9, None)))
        self.batches = batches

    def stop_reason(self) -> str | None:
        self.batches -= 1
        return "test" if self.batches < 0 else None
