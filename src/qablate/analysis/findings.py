"""The claims on the results of a study, ready to be printed: whether they belong to it, verdicts, questions, groups.

Claims are written for the published study; on another grid they are not evaluated, and the report says so.
"""

import difflib
import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from qablate.analysis.contrasts import Evidence
from qablate.analysis.evaluation import STATED_COLUMNS, ClaimResult, evaluate_claims, load_plan
from qablate.analysis.hours import hours_by_device
from qablate.analysis.old_claims import CLAIMS_PATH, Claims, load_claims
from qablate.analysis.power import Prices, Settlement, settlements
from qablate.analysis.reproduction import Published, reported_rows
from qablate.analysis.runs import CELL, Collection, collect
from qablate.analysis.sentences import answers, grouped
from qablate.analysis.settling import as_json, details, power_row, table
from qablate.errors import QablateError
from qablate.study import Cell, Study, published_sha256

VERDICTS = ("supported", "contradicted", "equivalent", "undecided", "descriptive", "not enough data")
NO_FILE = f"No claims were evaluated: there is no `{CLAIMS_PATH.as_posix()}` in the working folder."
OTHER_STUDY = (f"No claims were evaluated: those of `{CLAIMS_PATH.as_posix()}` belong to the published study, and this "
               "one has other datasets or another recipe.")
PARAMETER_UNIT = 1000
"""The founding document rounds parameter counts to thousands."""


@dataclass(frozen=True)
class Group:
    """Claims under one heading: their number by verdict in words, those with enough data, ids of the others.

    Items are those of `qablate.analysis.sentences.shown` with `to_settle`, what would decide them. The others are by
    reason and what would settle them.
    """

    title: str
    counts: str
    items: list[dict[str, Any]]
    tested: list[dict[str, Any]]
    without: dict[tuple[str, str], list[str]]


@dataclass(frozen=True)
class Findings:
    """What the report says of claims: the results with questions and groups, or `note` why there are none.

    `power` says what would settle the open ones (`qablate.analysis.power`), at `prices`; `controls` how far the
    controls are.
    """

    results: tuple[ClaimResult, ...] = ()
    note: str = ""
    power: tuple[Settlement, ...] = ()
    prices: Prices | None = field(default=None, compare=False)
    controls: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    @property
    def questions(self) -> list[Group]:
        """The study's questions with the claims that answer them."""
        return [self._group(title, items) for title, items in answers(self.results) if items]

    @property
    def groups(self) -> list[Group]:
        """Every claim, by section."""
        return [self._group(title, items) for title, items in grouped(self.results)]

    @property
    def controls_complete(self) -> bool:
        """Whether every cell of every control is there."""
        return bool(len(self.controls) and (self.controls["complete"] == self.controls["cells"]).all())

    @functools.cached_property
    def power_table(self) -> pd.DataFrame:
        """One row an open claim: what would settle it, and the cost."""
        return pd.DataFrame([power_row(settlement, self.prices) for settlement in self.power if self.prices])

    def _group(self, title: str, items: Sequence[dict[str, Any]]) -> Group:
        to_settle = {} if self.power_table.empty else dict(self.power_table[["id", "to_settle"]].to_numpy())
        items = [{**item, "to_settle": to_settle.get(item["claim"].id, "")} for item in items]
        found = Counter(item["verdict"] for item in items)
        without: dict[tuple[str, str], list[str]] = {}
        for item in items:
            if item["verdict"] == "not enough data":
                without.setdefault((item["reason_words"], item["to_settle"]), []).append(item["claim"].id)
        counts = ", ".join(f"{found[verdict]} {'values only' if verdict == 'descriptive' else verdict}"
                           for verdict in VERDICTS if found[verdict])
        return Group(title, f"{len(items)} claims: {counts}", items,
                     [item for item in items if item["verdict"] != "not enough data"], without)


def find(collection: Collection) -> Findings:
    """Evaluate the claims file of the working folder on a study; ClaimsError if it is no valid claims file."""
    if not CLAIMS_PATH.exists():
        return Findings(note=NO_FILE)
    claims = load_claims()
    if not belong(claims, collection.study):
        return Findings(note=OTHER_STUDY)
    results = evaluate_claims(collection.runs, collection.study, claims, cells=collection.cells,
                              pairs=collection.pairs, plan=load_plan(), stated=stated_totals(collection))
    return Findings(tuple(results), "", tuple(settlements(claims, results)), Prices(hours_by_device(collection)),
                    Evidence(claims, collection.runs, collection.cells).controls())


def belong(claims: Claims, study: Study) -> bool:
    """Whether a study has the published recipe and every dataset of the claims' grid, each a published one."""
    known, tasks = published_sha256(), study.config["tasks"]
    return study.config["training"]["recipe"] == "published" and all(
        task in tasks and length in tasks[task]["lengths"] and seed in study.config["seeds"]
        and study.dataset(task, length, seed).identity_json in known
        for task, grid in claims.tasks.items() for length in grid.lengths for seed in grid.replicates)


def stated_totals(collection: Collection) -> pd.DataFrame:
    """Return totals of the founding document (`STATED_COLUMNS`) that can be counted again from the runs in use.

    A system's number of runs is one of them only where its published runs of the task are those in use; all numbers of
    runs, Forrelation's too, are counted from the files themselves in the table of published numbers.
    """
    published = Published.of(collection)
    rows = []
    for row in reported_rows():
        value = float(row["value"])
        if row["metric"] == "n_params":
            rows.append(("n_params_total", "all", row["model_id"], "forrelation", value, PARAMETER_UNIT))
        elif row["table"] == "combined_progress" and row["metric"] == "runs_done" and row["task"] != "all" \
                and _counted_alike(published, row["system"], row["task"]):
            rows.append(("cells_complete_by_system", row["system"], "all", row["task"], value, 1))
    return pd.DataFrame(rows, columns=list(STATED_COLUMNS))


def _counted_alike(published: Published, system: str, task: str) -> bool:
    runs = published.collection.runs
    used = {Cell(*key) for key in runs.loc[(runs["source"] == system) & (runs["task"] == task), CELL].to_numpy()}
    return bool(used) and used == {run.cell for run in published.of_system(system)
                                   if run.cell is not None and run.cell.task == task}


def report_power(study: Study, claim: str | None = None, as_programs_read: bool = False,
                 device: str | None = None) -> str:
    """What `qablate power` prints: all open claims as a table, one in detail, or either as JSON."""
    findings = find(collect(study))
    if findings.prices is None:
        raise QablateError(findings.note.replace("`", ""))
    prices = findings.prices.on(device) if device else findings.prices
    by_id = {result.claim.id: result for result in findings.results}
    if claim is not None and claim not in by_id:
        close = "".join(f", did you mean '{name}'?" for name in difflib.get_close_matches(claim, by_id, 1))
        raise QablateError(f"claim '{claim}': not in {CLAIMS_PATH}{close}")
    chosen = [found for found in findings.power if claim in (None, found.result.claim.id)]
    if as_programs_read:
        return json.dumps([as_json(found, prices) for found in chosen], indent=2, allow_nan=False)
    if claim is None:
        return table(chosen, prices, len(by_id))
    return details(chosen[0], prices) if chosen else f"{claim} is decided.\n{by_id[claim].sentence}"
