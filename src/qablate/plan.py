"""What the workflow asks about its cells: which are to be trained here, why, and what each one needs first.

The Snakefile imports this module and nothing heavier. A finished cell must not depend on a dataset: were the dataset of
one missing cell made anew, Snakemake would train every finished cell of that dataset again. A cell that another system
has finished, or is to train, is no target here.
"""

import functools
import os
import textwrap
import time
from collections import Counter
from pathlib import Path

from qablate.errors import QablateError
from qablate.files import keep_copy, kept_path
from qablate.importing import Merged, merge, require_readable
from qablate.study import Cell, CellState, Study

TERMINAL_COLUMNS = 80
SHOWN_DIFFERENCES = 3


class Plan:
    """The cells of a study, each judged once by what its own results folder and the other systems hold."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.copies: list[Path] = []
        self._states: dict[Cell, CellState] = {}
        self._dataset = functools.cache(self._dataset_file)

    @functools.cached_property
    def merged(self) -> Merged:
        """Everything known about the study; a folder that cannot be listed is an error, its cells would be trained."""
        merged = merge(self.study)
        require_readable(merged)
        return merged

    def state(self, cell: Cell) -> CellState:
        """Judge a cell; later calls return the same answer, whatever happened to the file since."""
        if cell not in self._states:
            self._states[cell] = self._judge(cell)
        return self._states[cell]

    def _judge(self, cell: Cell) -> CellState:
        state, system = self.merged.state_of(cell), self.study.assigned_to(cell)
        if state.state == "done" or system in (None, self.study.system):
            return state
        return CellState("assigned", "; ".join(filter(None, [f"assigned to {system}", state.reason])))

    @functools.cached_property
    def targets(self) -> list[str]:
        """Result files that this system's workflow is to have: not those finished or to be trained elsewhere."""
        return [str(self.study.result_path(cell)) for cell in self.study.cells if self._is_target(cell)]

    def _is_target(self, cell: Cell) -> bool:
        state = self.state(cell).state
        return state not in ("done", "assigned") or (state == "done" and self._is_here(cell))

    def _is_here(self, cell: Cell) -> bool:
        """Whether a finished cell has a sound file of its own, chosen or not."""
        return any(self.merged.is_own(verdict) and (verdict.finishes or verdict.judged)
                   for verdict in self.merged.verdicts_of(cell))

    @property
    def imported(self) -> list[str]:
        """Files of other systems that finish cells: what a report is made from beside the targets."""
        sources = (self.merged.source_of(cell) for cell in self.study.cells)
        return [str(source.file.path) for source in sources if source is not None and not self.merged.is_own(source)]

    @property
    def folders(self) -> list[str]:
        """Folders of result files, of every source."""
        return [str(folder) for folder in self.merged.folders]

    @property
    def complete_here(self) -> bool:
        """Whether training the targets completes the study: no missing cell is assigned to another system."""
        return all(self.state(cell).state != "assigned" for cell in self.study.cells)

    def inputs(self, cell: Cell) -> list[str]:
        """Return the files that training a cell waits for; none if its result stands.

        A result that does not stand is copied to the superseded ones first. The copy is younger than the result,
        which is what makes Snakemake train the cell again (and delete the result).
        """
        if self.state(cell).state == "done":
            return []
        dataset, result = self._dataset(cell.task, cell.length, cell.seed), self.study.result_path(cell)
        return [dataset, str(self._keep(result))] if self._had_result(cell) else [dataset]

    def _had_result(self, cell: Cell) -> bool:
        """Whether a result file of the cell lay here when the plan was made, whatever it was worth."""
        return any(verdict.file.path.name == cell.result_name and verdict.file.modified and self.merged.is_own(verdict)
                   for verdict in self.merged.verdicts_of(cell))

    def _dataset_file(self, task: str, length: int, seed: int) -> str:
        return str(self.study.dataset(task, length, seed).path(self.study.results))

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
        total, done, assigned = len(self.study.cells), counts.pop("done", 0), counts.pop("assigned", 0)
        made = f" ({imported} of them imported)" if (imported := len(self.imported)) else ""
        head = f"study {self.study.name}: {total} cells, {done} done{made}, {total - done - assigned} to train"
        kinds = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return "\n".join([f"{head} ({kinds})" if kinds else head, *self._elsewhere()])

    def _elsewhere(self) -> list[str]:
        """One line a system that has missing cells to train: `12 cells are assigned to dgx`."""
        waiting = (cell for cell in self.study.cells if self.state(cell).state == "assigned")
        counts = Counter(self.study.assigned_to(cell) for cell in waiting)
        return [f"  {count} cells are assigned to {system}" for system, count in sorted(counts.items(), key=str)]

    def discard_copies(self) -> None:
        """Remove the superseded copies that this plan made; for a dry run, which must leave nothing behind."""
        for copy in self.copies:
            copy.unlink(missing_ok=True)
            _remove_if_empty(copy.parent)
        self.copies.clear()

    def _keep(self, result: Path) -> Path:
        """Copy a result under a name of its own, with a time after the result's; return the copy."""
        try:
            copy = kept_path(result, self.study.superseded)
            if not copy.exists():
                self.copies.append(copy)
            keep_copy(result, self.study.superseded)
            fresh = max(time.time(), result.stat().st_mtime + 1)
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
