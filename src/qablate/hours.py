"""Hours of cells, the one estimator: for status, plans, reports and the run times that jobs ask for.

Layer 0. What a cell's own log shows goes first, then results of the same system, then the cost table
(`workflow/costs.csv`) for its device. Columns of the table: device, model, task, length, seconds_per_epoch, epochs,
source. `device` is `cpu` (one core), the GPU's name or, for hours that are not this code's, `published code on ...`;
`epochs` is what cells ran before they stopped, empty where no result says it.

Where the table lacks a cell, the nearest measured length is used (nearest as a ratio), of the same task if there is
one, else of another. A longer cell is taken as proportionally slower; shorter lengths use the same cost (overestimates;
3a is the exception). A variant takes what its base does until it is measured itself.
"""

import contextlib
import csv
import io
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from qablate.catalog import model_info, task_info
from qablate.errors import QablateError
from qablate.files import in_workflow
from qablate.records import Record
from qablate.study import Cell, Study
from qablate.variants import is_variant

COSTS_PATH = Path("workflow/costs.csv")
MEASURED_ITEMS = 5000
"""Items of the dataset that the table's epochs run over; other sizes are scaled."""
HOUR = 3600.0
DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")

PUBLISHED_EPOCHS = {
    ("1a", "adding_problem"): 44, ("1a", "selective_copy"): 65,
    ("1b", "adding_problem"): 47, ("1b", "selective_copy"): 38,
    ("1c", "adding_problem"): 51, ("1c", "selective_copy"): 57,
    ("2a", "adding_problem"): 97, ("2a", "selective_copy"): 96,
}
"""Mean epochs to the early stop in the logs of the published code, where there are logs."""


class CostRow(NamedTuple):
    """One line of the table; `epochs` is None where no result says how many were used."""

    device: str
    model: str
    task: str
    length: int
    seconds_per_epoch: float
    epochs: float | None
    source: str


COLUMNS = CostRow._fields


class Estimate(NamedTuple):
    """What a cell takes: seconds per epoch, and epochs as cells of its kind used them."""

    seconds_per_epoch: float
    epochs: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole cell."""
        return self.seconds_per_epoch * self.epochs


class CostTable:
    """The rows of a cost table, and estimates for cells it does not hold."""

    def __init__(self, rows: Iterable[CostRow]) -> None:
        self.rows = tuple(rows)

    @classmethod
    def read(cls, path: Path = COSTS_PATH) -> "CostTable":
        """Read a table; a missing file, column or number is a QablateError that names file and line."""
        path = in_workflow(path)
        try:
            lines = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            if missing := [name for name in COLUMNS if name not in (lines.fieldnames or ())]:
                raise QablateError(f"{path}: no column {', '.join(missing)}; columns are {', '.join(COLUMNS)}")
            return cls(_row(path, number, line) for number, line in enumerate(lines, start=2))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise QablateError(f"{path}: cannot read costs: {getattr(error, 'strerror', None) or error}") from error

    @classmethod
    def at_hand(cls) -> "CostTable":
        """The table of the workflow, an empty one where there is none."""
        return cls.read() if in_workflow(COSTS_PATH).exists() else cls(())

    def estimate(self, device: str, model: str, task: str, length: int, max_epochs: int, n_items: int = MEASURED_ITEMS,
                 epochs_used: float | None = None) -> Estimate | None:
        """Cost of one cell, or None if the table holds nothing of this model on this device.

        `epochs_used` (from results at hand) goes before the table's column, that before the published numbers, and
        these before `max_epochs`, which always is the upper bound.
        """
        models, tasks = (model, model_info(model).id), (task, task_info(task).id)
        rows = [row for row in self.rows if row.device == device and row.model in models and
                (row.task in tasks or not is_variant(row.task))]
        if not rows:
            return None
        row = min(rows, key=lambda row: (row.task not in tasks, row.model != model, row.task != task,
                                         abs(math.log(row.length / length)), row.length))
        known = (epochs_used, row.epochs if row.task in tasks else None, PUBLISHED_EPOCHS.get((models[1], tasks[1])))
        epochs = min([next((number for number in known if number is not None), max_epochs), max_epochs])
        return Estimate(row.seconds_per_epoch * max(1.0, length / row.length) * n_items / MEASURED_ITEMS, epochs)


def with_rows(table: CostTable, fresh: Iterable[CostRow]) -> CostTable:
    """The table with `fresh` in place of the rows of the same cells, sorted."""
    rows = {row[:4]: row for row in (*table.rows, *fresh)}
    return CostTable(rows[key] for key in sorted(rows))


def to_csv(table: CostTable) -> bytes:
    """The table as the bytes of its file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for *cell, seconds, epochs, source in table.rows:
        writer.writerow([*cell, f"{seconds:.4g}", "" if epochs is None else f"{epochs:g}", source])
    return text.getvalue().encode("utf-8")


def _row(path: Path, number: int, line: dict[str, str]) -> CostRow:
    try:
        seconds, length = float(line["seconds_per_epoch"]), int(line["length"])
        epochs = float(line["epochs"]) if line["epochs"] else None
        if not (0 < seconds < math.inf and length > 0 and (epochs is None or 0 < epochs < math.inf)):
            raise ValueError("seconds_per_epoch, length and epochs must be positive")
        model_info(line["model"]), task_info(line["task"])
        return CostRow(line["device"], line["model"], line["task"], length, seconds, epochs, line["source"])
    except (ValueError, TypeError, QablateError) as error:
        raise QablateError(f"{path}, line {number}: {error}") from error


class TimeLeft(NamedTuple):
    """Hours of one cell: expected (epochs as cells of its kind used them) and at most (all epochs of the recipe)."""

    expected: float
    at_most: float


class Hours:
    """Estimates for the cells of one study on each of its systems.

    >>> Hours(study, CostTable.at_hand(), runs).time_left("dgx", cell)
    TimeLeft(expected=0.41, at_most=0.87)
    """

    def __init__(self, study: Study, table: CostTable, runs: Iterable[tuple[str, Record]] = (),
                 devices: Mapping[str, str] | None = None) -> None:
        """`runs` are the finished ones with the system that made them; `devices` (by system) overrule theirs."""
        self.study = study
        used, names = defaultdict(list), defaultdict[str, Counter[str]](Counter)
        seconds = defaultdict[tuple[str, str, str, int], list[float]](list)
        for system, record in runs:
            if name := record.get("provenance", {}).get("device_name"):
                names[system][name] += 1
            if epochs := record.get("epochs_trained"):
                kind = record["model_id"], record["task"]
                used[kind].append(epochs)
                median = record.get("training", {}).get("seconds_per_epoch_median")
                if per_epoch := median or (record.get("training_time") or 0.0) / epochs:
                    seconds[system, *kind, record["seq_len"]].append(per_epoch)
        self.epochs_used = {key: statistics.median(epochs) for key, epochs in used.items()}
        declared = study.config.get("jobs", {}).get("cost_device")    # what the profile's run times are estimated for
        self.devices = {study.system: local_device(study),
                        **{system: found.most_common(1)[0][0] for system, found in names.items()},
                        **({study.system: declared} if declared else {}), **(devices or {})}
        listed = [row._replace(device=system) for system, device in self.devices.items() for row in table.rows
                  if row.device == device]
        # The table is of datasets of this size, and its estimates scale back.
        measured = [CostRow(*key, statistics.median(found) * MEASURED_ITEMS / study.n_items(key[2]), None,
                            f"results of {key[0]}") for key, found in seconds.items()]
        self.table = with_rows(CostTable(listed), measured)    # its devices are the systems
        self._known: dict[tuple[str, str, str, int], Estimate | None] = {}

    def estimate(self, system: str, cell: Cell) -> Estimate | None:
        """Cost of a whole cell on a system; None if nothing of this model was measured there."""
        key = (system, cell.model, cell.task, cell.length)
        if key not in self._known:
            self._known[key] = self.table.estimate(*key, self._limit(cell), self.study.n_items(cell.task),
                                                   self._used(cell))
        return self._known[key]

    def time_left(self, system: str, cell: Cell, epochs_done: int = 0,
                  seconds: tuple[float, ...] = ()) -> TimeLeft | None:
        """Hours until a cell ends; `seconds` are those of its own epochs, as far as its log shows them."""
        estimate = self.estimate(system, cell)
        if estimate is None and not seconds:
            return None
        per_epoch = statistics.median(seconds) if seconds else estimate.seconds_per_epoch if estimate else 0.0
        wanted = estimate.epochs if estimate else self._used(cell) or self._limit(cell)
        at_most = max(self._limit(cell) - epochs_done, 0)
        expected = min(max(wanted - epochs_done, 1), at_most)
        return TimeLeft(expected * per_epoch / HOUR, at_most * per_epoch / HOUR)

    def _limit(self, cell: Cell) -> int:
        return int(self.study.training_settings(cell.model)["max_epochs"])

    def _used(self, cell: Cell) -> float | None:
        """Epochs that cells of a kind used: of the same model and task, else of the bases of a variant."""
        base = (model_info(cell.model).id, task_info(cell.task).id)
        return self.epochs_used.get((cell.model, cell.task), self.epochs_used.get(base))


def local_device(study: Study) -> str:
    """`cpu`, or the name of this machine's first GPU as its driver tells it; nothing is imported or started."""
    for file in sorted(DRIVER_FOLDER.glob("*/information")) if study.config["run"]["device"] != "cpu" else ():
        with contextlib.suppress(OSError):
            text = file.read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"^Model:(.*)$", text, re.MULTILINE):
                return found[1].strip()
    return "cpu"
