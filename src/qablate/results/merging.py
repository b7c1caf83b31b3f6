"""From all files of all sources to one result per cell: the one place that says what counts.

Of several results of a cell one is used by declared rules, never an average; the others are kept for comparison. A
result whose epoch was chosen on its test items never competes with an honest one.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from qablate.catalog import task_info
from qablate.files import read_json
from qablate.records import METRICS
from qablate.results.judging import judge, judge_log
from qablate.results.reading import Listing, list_sources
from qablate.results.states import FINISHED, LOCAL, CellState, Found, State, Verdict
from qablate.study import Cell, Study

LOST_IN_WRITING = ("empty", "truncated", "not_json", "encoding", "unreadable", "not_a_file", "too_large", "compressed")
"""Reasons that say nothing about the training itself, so that its log still counts."""
COMPETING = (*FINISHED, "partial")
"""Statuses of what competes for a cell."""
LOG_DIGITS = {"regression": 1e-6, "classification": 1e-4}
"""Last printed digit of the first test metric in a log."""
MAX_NOTE_BYTES = 100_000


@dataclass(frozen=True)
class Merged:
    """All that the results folder and the declared systems know about a study.

    `runs`: the result used for each cell, honest ones only. `legacy`: for each Forrelation cell the result used for the
    table of published scores, which were selected on their test items. `verdicts`: one per file, in a fixed order.
    `unreadable`: a line for each folder that could not be listed; `remarks`: a line for each declared folder of which
    nothing was read.
    """

    study: Study
    runs: Mapping[Cell, Verdict]
    legacy: Mapping[Cell, Verdict]
    verdicts: tuple[Verdict, ...]
    unreadable: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def source_of(self, cell: Cell) -> Verdict | None:
        """The file that finishes a cell, None if there is none; a selected score does where the study accepts those."""
        accepted = self.study.config["import"]["accept_selected_on_test"]
        runs = (self.runs.get(cell), self.legacy.get(cell) if accepted else None)
        return next((run for run in runs if run is not None and run.finishes), None)

    def finished(self, cell: Cell) -> bool:
        """Whether a cell need not be trained."""
        return self.source_of(cell) is not None

    def is_own(self, verdict: Verdict) -> bool:
        """Whether a file lies in the study's own results folder."""
        return verdict.file.path.parent.resolve() == self.study.result_folder.resolve()

    def state_of(self, cell: Cell) -> CellState:
        """Judge one cell with everything that is known: how it ended, else the state of its own file, else of others.

        The reason lists, split by `; `, what there is and why it does not count.
        """
        source = self.source_of(cell)
        if source is not None:
            return CellState(source.state)
        verdicts = self.by_cell[cell]
        for own in (v for v in verdicts if v.file.path.name == cell.result_name and self.is_own(v)):
            if own.own_state in (State.STALE, State.UNREADABLE):
                return CellState(own.own_state, own.line)
        state = min((verdict.state for verdict in verdicts), key=list(State).index, default=State.MISSING)
        return CellState(state, "; ".join(map(_why_not, verdicts)))

    @functools.cached_property
    def by_cell(self) -> defaultdict[Cell, list[Verdict]]:
        """Everything found under the name of each cell."""
        found = defaultdict(list)
        for verdict in self.verdicts:
            found[verdict.cell].append(verdict)
        return found

    def pairs(self) -> list[dict[str, Any]]:
        """Every two results of one cell with different numbers, trained apart: the evidence that systems agree.

        One row per test metric that both hold: cell, metric, systems, values, `difference` = second - first, paths.
        """
        runs = sorted((*self.runs.values(), *self.legacy.values()), key=lambda run: run.cell)
        return [{**vars(run.cell), "metric": key, "system_a": one.system, "value_a": one.record[key],
                 "system_b": two.system, "value_b": two.record[key],
                 "difference": two.record[key] - one.record[key],
                 "path_a": str(one.file.path), "path_b": str(two.file.path)}
                for run in runs for one, two in combinations((run, *run.duplicates), 2)
                for key in METRICS[task_info(run.cell.task).kind]
                if one.record.get(key) is not None and two.record.get(key) is not None]


def merge(study: Study) -> Merged:
    """Read and judge every file of every source, and choose one result per cell. Nothing is written."""
    listing, origins = list_sources(study), adopted_from(study)
    verdicts = [judge(study, file, listing.logs.get((file.source, file.cell), []), origins)
                for file in listing.results]
    verdicts += _without_result(study, listing, verdicts)
    verdicts += [Verdict(file, "rejected", "in_subfolder", "lies in a subfolder, which is not read: name "
                         f"{file.path.parent} under systems: to count it", file.cell, system=file.source)
                 for file in listing.misplaced]
    runs, legacy, verdicts = choose(study, verdicts)
    return Merged(study, runs, legacy, tuple(verdicts), tuple(listing.unreadable), tuple(listing.remarks))


def adoption_note(study: Study, cell: Cell) -> Path:
    """File that says where an adopted result came from; outside the results folder, where only results may be."""
    return study.results / "imported" / "adopted" / f"{cell.name}.json"


def adopted_from(study: Study) -> dict[str, str]:
    """Map the sha256 of adopted files to the system they came from; notes that cannot be read are passed over."""
    found = {}
    for note in sorted(adoption_note(study, study.cells[0]).parent.glob("*.json")):
        content = read_json(note, MAX_NOTE_BYTES)
        if {"sha256", "system"} <= content.keys():
            found[str(content["sha256"])] = str(content["system"])
    return found


def choose(study: Study, verdicts: Iterable[Verdict]) -> tuple[dict[Cell, Verdict], dict[Cell, Verdict], list[Verdict]]:
    """Return the run of each cell, the run of each cell for the legacy table, and all verdicts with losers marked."""
    groups = defaultdict[tuple[Cell, bool], list[Verdict]](list)
    final: list[Verdict] = []
    for verdict in verdicts:
        place = groups[verdict.cell, verdict.selected_on_test] if verdict.status in COMPETING else final
        place.append(verdict)
    chosen: dict[bool, dict[Cell, Verdict]] = {False: {}, True: {}}
    for (cell, selected), group in sorted(groups.items()):
        used, *others = sorted(group, key=lambda verdict: _preference(study, verdict))
        distinct = [replace(used, chosen=True)]
        for verdict in others:
            twin = next((other for other in distinct if same_run(other, verdict)), None)
            reason, detail = ("identical_copy", f"the same run as {twin.file.path}") if twin else (
                "duplicate_cell", f"other numbers than {used.file.path}, which is used")
            verdict = replace(verdict, status="duplicate", reason=reason, judged=verdict.status, detail=detail)
            (final if twin else distinct).append(verdict)
        chosen[selected][cell] = replace(distinct[0], duplicates=tuple(distinct[1:]))
        final += distinct
    final.sort(key=lambda verdict: (study.system_rank(verdict.file.source), str(verdict.file.path)))
    return chosen[False], chosen[True], final


def same_run(one: Verdict, two: Verdict) -> bool:
    """Whether two files are copies of one training: curves and metrics equal to the last bit.

    Of a file that was cut off, metrics after the first may come from a log and only the first is compared, to the
    digits of a log. Two trainings never share a whole curve.
    """
    a, b = one.record, two.record
    if a["history"] != b["history"]:
        return False
    names = METRICS[a["task_type"]]
    if "salvaged" not in (*one.flags, *two.flags):
        return all(a[key] == b[key] for key in ("best_val_metric", *names))
    return None in (a[names[0]], b[names[0]]) or abs(a[names[0]] - b[names[0]]) <= LOG_DIGITS[a["task_type"]]


def _preference(study: Study, verdict: Verdict) -> tuple[Any, ...]:
    """The declared rule, best first. Whether a run diverged plays no part: that would choose by outcome."""
    timestamp = str(verdict.record.get("timestamp") or "")
    return (
        not verdict.finishes,
        verdict.status not in FINISHED,
        verdict.record.get("schema_version") != 2 or "dataset_verified" not in verdict.flags,
        study.system_rank(verdict.system),
        not timestamp,
        [-ord(sign) for sign in timestamp],    # later before earlier
        verdict.file.source != LOCAL,
        study.system_rank(verdict.file.source),
        verdict.sha256,
        str(verdict.file.path),
    )


def _without_result(study: Study, listing: Listing, verdicts: list[Verdict]) -> Iterator[Verdict]:
    """Judge the logs and checkpoints of cells that their own source has no usable result of.

    A run that was refused for what it is (wrong settings, leaky data) is not let in again by its log. A checkpoint
    next to a finished result is what a stopped clean-up left, and no file to judge. No score is ever derived from a
    training without an end.
    """
    judged = {(verdict.file.source, verdict.cell) for verdict in verdicts
              if verdict.status in COMPETING or verdict.reason not in LOST_IN_WRITING}
    finished = {(verdict.file.source, verdict.cell) for verdict in verdicts if verdict.finishes}
    unfinished = {}
    for (source, cell), logs in sorted(listing.logs.items()):
        if (source, cell) in judged:
            continue
        used, *others = (Found.at(source, log.path) for log in logs)
        for file in others:
            yield Verdict(file, "duplicate", "second_log", f"of the same cell as {used.path}, which is used", cell,
                          system=source, judged="unfinished")
        if logs[0].complete:
            yield (verdict := judge_log(study, used, logs[0]))
            finished |= {(source, cell)} if verdict.finishes else set()
        else:
            unfinished[source, cell] = used, "log_without_result"
    unfinished |= {key: (file, "checkpoint_without_result") for key, file in listing.checkpoints.items()
                   if key not in finished}
    for (source, cell), (file, reason) in sorted(unfinished.items()):
        epoch = listing.logs[source, cell][0].last_epoch if (source, cell) in listing.logs else 0
        detail = f"log ends at epoch {epoch}" if epoch else "no epoch in a log"
        yield Verdict(file, "unfinished", reason, detail, cell, system=source) if cell in study.cell_set else Verdict(
            file, "rejected", "not_in_study", f"{cell.name} is no cell of this study", cell, system=source)


def _why_not(verdict: Verdict) -> str:
    """`nersc: known only without a test score (name.json)`: why a file does not finish its cell."""
    reason = {
        "selected_on_test": "known only with a score selected on its test items",
        "forrelation_v1": "quarantined, made with the data that give their labels away (forrelation_v1)",
        "truncated": "known only without a test score (the file was cut off)" if verdict.status == "partial" else "",
    }.get(verdict.reason, "")
    words = reason or f"{verdict.status}, {verdict.reason}" + (f": {verdict.detail}" if verdict.detail else "")
    return f"{verdict.system}: {words}".replace("; ", ", ")
