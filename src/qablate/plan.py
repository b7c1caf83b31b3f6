"""What the workflow asks about its cells: which are to be trained here, why, and whether the report is up to date.

The Snakefile imports this module and nothing heavier. Everything is decided by what files say, nothing by their times.
A result file is no output of a rule: Snakemake deletes outputs, before a job and after one that failed. The output of
a training job is a flag of its own, which counts for nothing in the next run.
"""

import contextlib
import functools
import os
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from qablate import __version__
from qablate.errors import QablateError
from qablate.files import in_workflow, sha256_of, write_atomic
from qablate.hours import COSTS_PATH
from qablate.records import RESULT_NAME, sha256_of_json
from qablate.results import CellState, Merged, State, checks_path, merge
from qablate.study import Cell, Study

TERMINAL_COLUMNS = 80
SHOWN_DIFFERENCES = 3
NOT_IN_REPORT = ("run", "jobs", "system")
"""Settings that a report does not depend on: where and how cells are run."""


class Plan:
    """The cells of a study, each judged once by what its own results folder and the other systems hold."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.state = functools.cache(self._judged)    # a later call answers alike, whatever happened to the file since

    @functools.cached_property
    def merged(self) -> Merged:
        """Everything known about the study; a folder that cannot be listed is an error, its cells would be trained."""
        merged = merge(self.study)
        if merged.unreadable:
            raise QablateError(merged.unreadable[0])
        return merged

    def _judged(self, cell: Cell) -> CellState:
        if self.merged.finished(cell):
            return CellState(State.DONE)
        known, system = self.merged.state_of(cell), self.study.assigned_to(cell)
        if system not in (None, self.study.system):
            return CellState(State.ASSIGNED, "; ".join(filter(None, [f"assigned to {system}", known.reason])))
        return CellState(known.state.in_plan, known.reason)

    @functools.cached_property
    def to_train(self) -> tuple[Cell, ...]:
        """Cells that this system is to train: without a valid result anywhere, and not assigned to another system."""
        return tuple(cell for cell in self.study.cells if self.state(cell).state not in ("done", "assigned"))

    @functools.cached_property
    def flags(self) -> Path:
        """Folder of the empty files that training jobs leave, as Snakemake wants a file of each job."""
        return self.study.results / ".trained"

    def flag(self, cell: Cell) -> str:
        """The file that Snakemake makes when the training job of a cell has ended well."""
        return f"{self.flags}/{cell.name}"

    def remove_old_flags(self) -> None:
        """Remove the flags of cells that are to be trained (again), or Snakemake would take them for trained.

        The flags are listed before the results are read: another run next to this one writes a result before its flag,
        so that a flag that it still needs is never removed.
        """
        flags = {path.name for path in self.flags.glob("*")}
        for cell in self.to_train if flags else ():
            if cell.name in flags:
                with contextlib.suppress(OSError):    # Snakemake's plan then lacks the cell, which is checked
                    Path(self.flag(cell)).unlink()

    def inputs(self, cell: Cell) -> list[str]:
        """Return what training a cell waits for: its dataset if that is missing. One that is there is no job's output,
        so that no other cell can make Snakemake delete it.
        """
        dataset = self.study.dataset_path(cell)
        return [] if os.path.exists(dataset) else [str(dataset)]

    @functools.cached_property
    def task_of(self) -> dict[str, str]:
        """The task of the study, a variant or not, of each dataset's file."""
        return {str(self.study.dataset_path(cell)): cell.task for cell in self.study.cells}

    def describe(self, cell: Cell) -> str:
        """Say what is trained and why, in lines that fit a terminal of 80 columns."""
        judged = self.state(cell)
        lines = [f"train {cell.model} on {cell.task}, length {cell.length}, seed {cell.seed} ({judged.state})"]
        reasons = [part for part in judged.reason.split("; ") if part]
        if (more := len(reasons) - SHOWN_DIFFERENCES) > 0:
            reasons[SHOWN_DIFFERENCES:] = [f"and {more} more"]
        for reason in reasons:
            lines += textwrap.wrap(reason, TERMINAL_COLUMNS, initial_indent="  ", subsequent_indent="    ",
                                   break_on_hyphens=False)
        return "\n".join(lines)

    def summary(self) -> str:
        """Count the cells: `study published: 396 cells, 395 to train (394 missing, 1 stale)`.

        One more line per system that has missing cells to train: `12 cells are assigned to dgx`, and per declared
        folder that holds nothing.
        """
        counts = Counter[str](self.state(cell).state for cell in self.study.cells)
        total, done, assigned = len(self.study.cells), counts.pop("done", 0), counts.pop("assigned", 0)
        sources = filter(None, map(self.merged.source_of, self.study.cells))
        imported = sum(not self.merged.is_own(source) for source in sources)
        made = f" ({imported} imported)" if imported else ""
        head = f"study {self.study.name}: {total} cells, {done} done{made}, {total - done - assigned} to train"
        kinds = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        elsewhere = Counter(self.study.assigned_to(cell) for cell in self.study.cells
                            if self.state(cell).state == "assigned")
        return "\n".join([f"{head} ({kinds})" if kinds else head, *(
            f"  {count} cells are assigned to {system}" for system, count in sorted(elsewhere.items(), key=str)),
            *(f"  {remark}" for remark in self.merged.remarks)])

    @property
    def report_files(self) -> tuple[Path, Path]:
        """The combined report, as Markdown and as HTML."""
        report = self.study.results / "combined_report.md"
        return report, report.with_suffix(".html")

    @functools.cached_property
    def report_due(self) -> bool:
        """Whether the combined report is to be made: a file of it is missing, or what it was made from has changed."""
        if self.to_train or not all(path.is_file() for path in self.report_files):
            return True
        try:
            return _note(self.study).read_text(encoding="ascii") != fingerprint(self.merged)
        except (OSError, ValueError):
            return True

    def aim(self, targets: Iterable[str], forced: bool = False) -> tuple[set[str], set[Cell]]:
        """Turn what the user asked for into targets of Snakemake; return them and the cells that they train.

        A result's file becomes its cell's flag; one that is valid asks for nothing. The whole study and the report
        become `report` where that is due (or `forced`), else `all`, which then has nothing to do. Raises QablateError
        for the result of a cell that the study does not have.
        """
        asked, cells = {os.path.relpath(target) for target in targets} or {"all"}, set[Cell]()
        whole = {"all", "report", *(os.path.relpath(path) for path in self.report_files)} & asked
        cells_of = self.study.cells if asked > whole else ()
        results = {os.path.relpath(path): cell for cell in cells_of
                   for path in (self.study.result_path(cell), self.flag(cell))}
        named = {results[target] for target in results.keys() & asked}
        found = asked - whole - results.keys()
        for target in sorted(found):    # a result that is none of this study's: say what the study has
            if match := RESULT_NAME.fullmatch(os.path.basename(target)):
                self.study.cell(match["model"], match["task"], int(match["length"]), int(match["seed"]))
        if whole:
            cells = set(self.to_train)
            complete = whole != {"all"} or all(self.state(cell).state != "assigned" for cell in self.study.cells)
            found.add("report" if complete and (forced or self.report_due) else "all")
        cells |= named & set(self.to_train)
        return found | {self.flag(cell) for cell in cells & named}, cells


def _note(study: Study) -> Path:
    """The file that says what the combined report was made from."""
    return study.results / "logs/report/combined.sha256"


def fingerprint(merged: Merged) -> str:
    """Hash of what a report is made from: all files of all sources, their verdicts and checks, what is known of the
    datasets, settings, claims, costs, code."""
    study = merged.study
    settings = {key: value for key, value in study.config.items() if key not in NOT_IN_REPORT}
    files = [[str(verdict.file.path), verdict.sha256, verdict.status, verdict.reason, verdict.detail, verdict.system,
              *verdict.flags] for verdict in merged.verdicts]
    checks = [checks_path(verdict.file.path) for verdict in merged.verdicts if verdict.chosen]
    declared = [in_workflow(path) for path in (COSTS_PATH, COSTS_PATH.with_name("claims.yaml"))]
    datasets = [spec.path(study.results) for spec in study.datasets]
    facts = [path.with_suffix(ending) for path in datasets for ending in (".json", ".checks.json")]
    others = [_hash(path) for path in (*declared, *checks, *facts)]
    return sha256_of_json([__version__, settings, files, others])


def _hash(path: Path) -> str:
    """Hash of a file's bytes; nothing for what cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def note_report(study: Study, made_from: str) -> None:
    """Note what the combined report was made from: `fingerprint`, taken before it was begun."""
    write_atomic(_note(study), made_from.encode("ascii"))
