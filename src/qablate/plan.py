"""What the workflow asks about its cells: which are to be trained, why, and what each one needs first.

Layer 0: the Snakefile imports this module and nothing heavier. A finished cell must not depend on a dataset: were the
dataset of one missing cell made anew, Snakemake would train every finished cell of that dataset again.
"""

import os
import shutil
import textwrap
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from qablate.errors import QablateError
from qablate.study import Cell, CellState, Study

TERMINAL_COLUMNS = 80
SHOWN_DIFFERENCES = 3


class Plan:
    """The cells of a study, each judged once by its result file."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.copies: list[Path] = []
        self._states: dict[Cell, CellState] = {}

    def state(self, cell: Cell) -> CellState:
        """Judge a cell; later calls return the same answer, whatever happened to the file since."""
        if cell not in self._states:
            self._states[cell] = self.study.state_of(cell)
        return self._states[cell]

    def inputs(self, cell: Cell) -> list[str]:
        """Return the files that training a cell waits for; none if its result stands.

        A result that no longer stands is copied to the superseded ones first. The copy is younger than the result,
        which is what makes Snakemake train the cell again (and delete the result).
        """
        state = self.state(cell).state
        if state == "done":
            return []
        dataset = str(self.study.dataset_path(cell))
        return [dataset] if state == "missing" else [dataset, str(self._keep(self.study.result_path(cell)))]

    def describe(self, cell: Cell) -> str:
        """Say what is trained and why, in lines that fit a terminal of 80 columns."""
        judged = self.state(cell)
        title = f"train {cell.model} on {cell.task}, length {cell.length}, seed {cell.seed} ({judged.state})"
        reasons = [part for part in judged.reason.split("; ") if part]
        more = len(reasons) - SHOWN_DIFFERENCES
        if more > 0:
            reasons[SHOWN_DIFFERENCES:] = [f"and {more} more"]
        return "\n".join([title, *(_indented(reason) for reason in reasons)])

    def summary(self) -> str:
        """Count the cells: `study published: 396 cells, 395 to train (394 missing, 1 stale)`."""
        counts = Counter(self.state(cell).state for cell in self.study.cells)
        total, done = len(self.study.cells), counts.pop("done", 0)
        head = f"study {self.study.name}: {total} cells, {done} done, {total - done} to train"
        kinds = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return f"{head} ({kinds})" if kinds else head

    def discard_copies(self) -> None:
        """Remove the superseded copies that this plan made; for a dry run, which must leave nothing behind."""
        for copy in self.copies:
            copy.unlink(missing_ok=True)
            _remove_if_empty(copy.parent)
        self.copies.clear()

    def _keep(self, result: Path) -> Path:
        """Copy a result under a name of its own, with a time after the result's; return the copy."""
        try:
            written = result.stat().st_mtime
            stamp = datetime.fromtimestamp(written, UTC).strftime("%Y%m%dT%H%M%S_%f")
            copy = self.study.results / "superseded" / f"{result.stem}.{stamp}.json"
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                self.copies.append(copy)
                shutil.copyfile(result, copy)
            fresh = max(time.time(), written + 1)
            os.utime(copy, (fresh, fresh))
        except OSError as error:
            raise QablateError(f"{result}: cannot be kept before training: {error.strerror or error}") from error
        return copy


def _indented(reason: str) -> str:
    return textwrap.fill(reason, TERMINAL_COLUMNS, initial_indent="  ", subsequent_indent="    ",
                         break_on_hyphens=False)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
