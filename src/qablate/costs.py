"""What an epoch costs on a device, read from `workflow/costs.csv`: for plans, job run times and progress reports.

Layer 0. Columns of the table: device, model, task, length, seconds_per_epoch, epochs, source. `device` is `cpu` (one
core), the GPU's name or, for hours that are not this code's, `published code on ...`; `epochs` is what cells ran before
they stopped, empty where no result says it.

Where the table lacks a cell, the nearest measured length stands in (nearest as a ratio), of the same task if there is
one, else of another. A longer cell is taken as proportionally slower, a shorter one as just as slow: too high rather
than too low, but for the attention of 3a, whose time grows faster than its length. A variant takes what its base does
until it is measured itself. The estimate says where it is from.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qablate.catalog import model_info, task_info
from qablate.errors import QablateError
from qablate.variants import is_variant

COLUMNS = ("device", "model", "task", "length", "seconds_per_epoch", "epochs", "source")
COSTS_PATH = Path("workflow/costs.csv")
MEASURED_ITEMS = 5000
"""Items of the dataset that the table's epochs run over; other sizes are scaled."""

PUBLISHED_EPOCHS = {
    ("1a", "adding_problem"): 44, ("1a", "selective_copy"): 65,
    ("1b", "adding_problem"): 47, ("1b", "selective_copy"): 38,
    ("1c", "adding_problem"): 51, ("1c", "selective_copy"): 57,
    ("2a", "adding_problem"): 97, ("2a", "selective_copy"): 96,
}
"""Mean epochs to the early stop in the logs of the published code, where there are logs."""


@dataclass(frozen=True)
class CostRow:
    """One line of the table; `epochs` is None where no result says how many were used."""

    device: str
    model: str
    task: str
    length: int
    seconds_per_epoch: float
    epochs: float | None
    source: str


@dataclass(frozen=True)
class Estimate:
    """Seconds that a cell takes, the two factors of it, and where each comes from."""

    seconds: float
    seconds_per_epoch: float
    epochs: float
    source: str


class CostTable:
    """The rows of a cost table, and estimates for cells it does not hold."""

    def __init__(self, rows: Iterable[CostRow]) -> None:
        self.rows = tuple(rows)

    @classmethod
    def read(cls, path: Path = COSTS_PATH) -> "CostTable":
        """Read a table; a missing file, column or number is a QablateError that names file and line."""
        try:
            lines = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if missing:
                raise QablateError(f"{path}: no column {', '.join(missing)}; columns are {', '.join(COLUMNS)}")
            return cls(_row(path, number, line) for number, line in enumerate(lines, start=2))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise QablateError(f"{path}: cannot read costs: {getattr(error, 'strerror', None) or error}") from error

    def estimate(self, device: str, model: str, task: str, length: int, max_epochs: int, n_items: int = MEASURED_ITEMS,
                 epochs_used: float | None = None) -> Estimate | None:
        """Seconds of one cell, or None if the table holds nothing of this model on this device.

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
        scale = max(1.0, length / row.length) * n_items / MEASURED_ITEMS
        same = row if row.task in tasks else None
        epochs, of_epochs = _epochs(same, models[-1], tasks[-1], max_epochs, epochs_used)
        seconds = row.seconds_per_epoch * scale
        return Estimate(seconds * epochs, seconds, epochs, f"{_provenance(row, model, task, length)}; {of_epochs}")


def with_rows(table: CostTable, fresh: Iterable[CostRow]) -> CostTable:
    """The table with `fresh` in place of the rows of the same cells, sorted."""
    rows = {(row.device, row.model, row.task, row.length): row for row in (*table.rows, *fresh)}
    return CostTable(rows[key] for key in sorted(rows))


def to_csv(table: CostTable) -> bytes:
    """The table as the bytes of its file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        epochs = "" if row.epochs is None else f"{row.epochs:g}"
        writer.writerow([row.device, row.model, row.task, row.length, f"{row.seconds_per_epoch:.4g}", epochs,
                         row.source])
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


def _provenance(row: CostRow, model: str, task: str, length: int) -> str:
    if (row.task, row.length) == (task, length):
        return row.source if row.model == model else f"as {row.model} ({row.source})"
    rule = "in proportion to length" if length > row.length else "taken as just as slow"
    return f"from {row.task} L={row.length}, {rule} ({row.source})"


def _epochs(row: CostRow | None, model: str, task: str, limit: int, used: float | None) -> tuple[float, str]:
    """Epochs of a cell and where the number is from."""
    published = PUBLISHED_EPOCHS.get((model, task))
    known: tuple[tuple[float | None, str], ...] = (
        (used, "epochs of results at hand"),
        (row.epochs if row else None, "epochs of earlier results"),
        (published, "epochs of the published logs"),
    )
    for number, source in known:
        if number is not None:
            return min(number, limit), source
    return limit, "all epochs of the recipe"
