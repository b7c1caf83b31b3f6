"""Hours that the unfinished cells of a study still need, system by system.

What a cell's own log shows goes first, then results of the same system, then the cost table for its device.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qablate.catalog import model_info, task_info
from qablate.costs import MEASURED_ITEMS, CostRow, CostTable, Estimate, with_rows
from qablate.records import Record
from qablate.study import Cell, Study

DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
HOUR = 3600.0


@dataclass(frozen=True)
class TimeLeft:
    """Hours of one cell: expected (epochs as cells of its kind used them) and at most (all epochs of the recipe)."""

    expected: float
    at_most: float


class Costs:
    """Estimates for the cells of one study on each of its systems."""

    def __init__(self, study: Study, table: CostTable, runs: Iterable[tuple[str, Record]],
                 devices: Mapping[str, str] | None = None) -> None:
        """`runs` are the finished ones with the system that made them; `devices` (by system) overrule theirs."""
        self.study = study
        runs = list(runs)
        self.epochs_used = epochs_used(runs)
        declared = study.config.get("jobs", {}).get("cost_device")    # what the profile's run times are estimated for
        own = {study.system: declared} if declared else {}
        self.devices = {study.system: local_device(study), **_devices(runs), **own, **(devices or {})}
        systems = {*self.devices, *(system for system, _ in runs)}
        self.tables = {system: self._table(system, table, runs) for system in systems}
        self._known: dict[tuple[str, str, str, int], Estimate | None] = {}

    def _table(self, system: str, table: CostTable, runs: list[tuple[str, Record]]) -> CostTable:
        """Costs under the name of a system: those of its device, and over them what its own results took."""
        listed = [replace(row, device=system) for row in table.rows if row.device == self.devices.get(system)]
        found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for name, record in runs:
            if name == system and (seconds := seconds_per_epoch(record)) is not None:
                found[record["model_id"], record["task"], record["seq_len"]].append(seconds)
        # The table is of datasets of this size, and its estimates scale back.
        measured = [CostRow(system, model, task, length,
                            statistics.median(seconds) * MEASURED_ITEMS / self.study.n_items(task), None,
                            f"results of {system}") for (model, task, length), seconds in found.items()]
        return with_rows(CostTable(listed), measured)

    def estimate(self, system: str, cell: Cell) -> Estimate | None:
        """Cost of a whole cell on a system; None if nothing of this model was measured there."""
        key = (system, cell.model, cell.task, cell.length)
        if key not in self._known:
            limit = self.study.training_settings(cell.model)["max_epochs"]
            self._known[key] = None if system not in self.tables else self.tables[system].estimate(
                *key, limit, self.study.n_items(cell.task), of_cell(self.epochs_used, cell))
        return self._known[key]

    def time_left(self, system: str, cell: Cell, epochs_done: int = 0,
                  seconds: tuple[float, ...] = ()) -> TimeLeft | None:
        """Hours until a cell ends; `seconds` are those of its own epochs, as far as its log shows them."""
        estimate = self.estimate(system, cell)
        if estimate is None and not seconds:
            return None
        per_epoch = statistics.median(seconds) if seconds else estimate.seconds_per_epoch if estimate else 0.0
        limit = self.study.training_settings(cell.model)["max_epochs"]
        wanted = estimate.epochs if estimate else of_cell(self.epochs_used, cell) or limit
        at_most = max(limit - epochs_done, 0)
        expected = min(max(wanted - epochs_done, 1), at_most)
        return TimeLeft(expected * per_epoch / HOUR, at_most * per_epoch / HOUR)


def local_device(study: Study) -> str:
    """`cpu`, or the name of this machine's first GPU as its driver tells it; nothing is imported or started."""
    if study.config["run"]["device"] == "cpu":
        return "cpu"
    for file in sorted(DRIVER_FOLDER.glob("*/information")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition(":")
            if key == "Model":
                return value.strip()
    return "cpu"


def epochs_used(runs: Iterable[tuple[str, Record]]) -> dict[tuple[str, str], float]:
    """Median number of epochs for each model and task; `runs` are results with the system that made them."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for _, record in runs:
        if record.get("epochs_trained"):
            found[record["model_id"], record["task"]].append(record["epochs_trained"])
    return {key: statistics.median(epochs) for key, epochs in found.items()}


def of_cell(used: Mapping[tuple[str, str], float], cell: Cell) -> float | None:
    """Epochs that cells of a kind used: of the same model and task, else of the bases of a variant."""
    return used.get((cell.model, cell.task), used.get((model_info(cell.model).id, task_info(cell.task).id)))


def _devices(runs: Iterable[tuple[str, Record]]) -> dict[str, str]:
    """The device that most results of each system name, where one does."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for system, record in runs:
        if name := record.get("provenance", {}).get("device_name"):
            found[system][name] += 1
    return {system: names.most_common(1)[0][0] for system, names in found.items()}


def seconds_per_epoch(record: Mapping[str, Any]) -> float | None:
    """Seconds an epoch took by a result, its median where it says that; None if it does not tell."""
    median = record.get("training", {}).get("seconds_per_epoch_median")
    total, epochs = record.get("training_time"), record.get("epochs_trained")
    seconds = median or (total / epochs if total and epochs else None)
    return seconds if seconds and seconds > 0 else None
