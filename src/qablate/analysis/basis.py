"""What the figures of scores draw from: the runs as the claims read them, on the grid of the study itself.

The claims' contrasts and outcomes make every estimate and interval. On the published study they are those of the
claims; on another study, where no claim is evaluated, the same contrasts are measured over its own blocks.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from qablate.analysis.ceilings import known_datasets, references, share_of_way
from qablate.analysis.contrasts import BRIDGE_TASKS, Blocks, Evidence, benefit
from qablate.analysis.evaluation import STATED_COLUMNS, ClaimResult, load_plan
from qablate.analysis.old_claims import CLAIMS_PATH, Claim, Claims, Scale, TaskGrid, load_claims
from qablate.analysis.outcomes import Material, Outcome, measure
from qablate.analysis.runs import CELL, Collection
from qablate.analysis.sentences import REASON_WORDS
from qablate.catalog import task_info
from qablate.study import Study

SHORT = {"forrelation": "forr", "adding_problem": "adding", "selective_copy": "copy"}
"""Tasks as the ids of claims write them."""
PERFECT = {"test_mse": 0.0, "test_r2": 1.0, "test_acc": 1.0}
CONTRAST_COLUMNS = ("id", "task", "scope", "label", "estimate", "low90", "high90", "low95", "high95", "margin", "n",
                    "units", "verdict")


@dataclass(frozen=True)
class Basis:
    """Runs and states of a study, what the claims make of them, and verdicts by claim id where there are any."""

    collection: Collection
    material: Material
    verdicts: dict[str, str]

    @property
    def evidence(self) -> Evidence:
        """Every run with its benefit."""
        return self.material.evidence

    def scale(self, task: str) -> Scale:
        """How a score of this task becomes a benefit."""
        return self.material.claims.tasks[task].scale

    @functools.cached_property
    def solvers(self) -> dict[tuple[str, int], float]:
        """Raw score of the reference solver by task and length; a perfect one where no solver's score is known."""
        table = references(self.collection.study)
        table = table[(table["role"] == "ceiling") & (table["model"] == "all")]
        known = {(row["task"], row["length"]): row["value"] for row in table.to_dict("records")}
        return {(task, length): known.get((task, length), PERFECT[self.scale(task).metric])
                for task in self.collection.tasks for length in self.collection.lengths(task)}

    def share(self, task: str, length: int, value: float) -> float:
        """Return how far a benefit has come from the baseline (0) to the reference solver (1)."""
        scale = self.scale(task)
        return share_of_way(value, scale.baseline, benefit(scale, self.solvers[task, length]))

    def runs(self, task: str) -> pd.DataFrame:
        """One row a run with an honest score: `model, length, seed, state, score, benefit, counts`.

        `counts` says whether it may enter a contrast; a diverged run has the baseline's benefit and no score.
        """
        metric = self.scale(task).metric
        rows = [(key.model, key.length, key.seed, seen.state,
                 seen.raw.get(metric) if seen.state == "complete" else None, seen.benefit, seen.usable)
                for key, seen in self.evidence.observations.items()
                if key.task == task and key.model in self.collection.models
                and seen.state in ("complete", "diverged") and seen.reason != "selected_on_test"]
        columns = ["model", "length", "seed", "state", "score", "benefit", "counts"]
        table = pd.DataFrame(rows, columns=columns).astype({"score": "float64", "benefit": "float64"})
        return table.sort_values(columns[:3], ignore_index=True)

    def curves(self, task: str) -> pd.DataFrame:
        """The learning curves of a task, with `chosen` at the epoch whose weights were tested."""
        best = set(map(tuple, self.collection.runs_of(task)[[*CELL, "best_epoch"]].to_numpy()))
        curves = self.collection.curves[self.collection.curves["task"] == task]
        rows = zip(*(curves[key] for key in (*CELL, "epoch")), strict=True)
        return curves.assign(chosen=np.array([row in best for row in rows], dtype=bool))

    def tasks_in(self, frame: pd.DataFrame) -> list[str]:
        """The study's tasks that a frame has a row of."""
        return [task for task in self.collection.tasks if (frame["task"] == task).any()]

    def models_in(self, frame: pd.DataFrame, key: str = "model") -> list[str]:
        """The study's models that a column of a frame names."""
        named = set(frame[key])
        return [model for model in self.collection.models if model in named]

    def with_runs(self, task: str, arms: Iterable[str]) -> list[str]:
        """Those of some arms that have any run that counts."""
        return [arm for arm in arms if self.evidence.runs_of(arm, task)]

    def matched(self, task: str, arms: Iterable[str]) -> Blocks:
        """The blocks in which all of some arms can be compared, by the rules of the claims."""
        return self.evidence.matched(Claim("", "descriptive", "", (task,), "", "", models=tuple(arms)))

    def comparable(self, task: str, extra: Iterable[str] = ()) -> tuple[list[str], Blocks] | None:
        """Choose models and the blocks that all of them have, so that most cells remain; None without any block.

        Availability alone decides: models with the most runs come first, and among equal numbers of cells more models.
        """
        arms = self.with_runs(task, [*self.collection.models, *extra])
        ranked = sorted(arms, key=lambda arm: -len(self.evidence.runs_of(arm, task)))
        found = [(chosen, self.matched(task, chosen)) for chosen in
                 ([arm for arm in arms if arm in ranked[:size]] for size in range(len(arms), 0, -1))]
        best = max(found, key=lambda pair: len(pair[0]) * pair[1].n, default=None)
        return best if best is not None and best[1].n else None

    def left_out(self, tasks: Iterable[str], extra: Iterable[str] = ()) -> list[str]:
        """What `comparable` leaves out, in words for the banner: blocks that are not matched, and models."""
        lines = []
        for task in tasks:
            found, arms = self.comparable(task, extra), self.with_runs(task, [*self.collection.models, *extra])
            if found is None:
                lines.append(f"{task_info(task).title}: no run to compare")
                continue
            without = [arm for arm in arms if arm not in found[0]]
            if found[1].n < found[1].used.size or without:
                lines.append(f"{task_info(task).title}: {found[1].n} of {found[1].used.size} blocks matched"
                             + (f", without {', '.join(without)}" if without else ""))
        return lines

    def contrasts(self, named: Iterable[tuple[str, str]]) -> pd.DataFrame:
        """Measure claims given as (id, label): one row, `CONTRAST_COLUMNS`, for each that has a block in the study."""
        return pd.DataFrame(list(self._contrasts(named)), columns=list(CONTRAST_COLUMNS))

    def _contrasts(self, named: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        for key, label in named:
            claim = self.material.claims.claims.get(key)
            if claim is None or claim.task not in self.collection.tasks:
                continue
            found = measure(self.material, claim)
            if not found.n:
                continue
            yield {"id": key, "task": claim.task, "scope": claim.scope, "label": label, "estimate": found.value,
                   "low90": found.ci90.low, "high90": found.ci90.high, "low95": found.ci95.low,
                   "high95": found.ci95.high, "margin": found.margin, "n": found.n, "units": found.units,
                   "verdict": self.verdict(key, found)}

    def verdict(self, key: str, found: Outcome) -> str:
        """The verdict of a claim with the reason of one without enough data; the reason alone where none was due."""
        reason = REASON_WORDS[found.reasons[0]] if found.reasons else ""
        verdict = self.verdicts.get(key, "")
        return reason if verdict == "not enough data" or not verdict else verdict

    def missing(self, task: str | None = None) -> list[str]:
        """What the study lacks, in words for the banner: cells without a result, models without any run."""
        cells = self.collection.cells if task is None else self.collection.cells_of(task)
        n_open = int((~cells["finished"].astype(bool)).sum())
        if not n_open:
            return []
        found = [f"{n_open} of {len(cells)} cells without a result"]
        for name in self.collection.tasks if task is None else [task]:
            have = set(cells.loc[(cells["task"] == name) & cells["finished"].astype(bool), "model"])
            lack = [model for model in self.collection.models if model not in have]
            if lack:
                which = "any model" if not have else ", ".join(lack)
                found.append(f"{task_info(name).title}: no run of {which}")
        return found


def lay_basis(collection: Collection, results: Iterable[ClaimResult] = ()) -> Basis | None:
    """Read the claims file for the study's own lengths and seeds; None where the working folder has no such file."""
    if not CLAIMS_PATH.exists():
        return None
    claims = _on_grid_of(collection.study, load_claims())
    bridges = collection.pairs if set(BRIDGE_TASKS) <= set(claims.tasks) else None
    return basis_of(collection, claims, bridges, {result.claim.id: result.verdict for result in results})


def basis_of(collection: Collection, claims: Claims, pairs: pd.DataFrame | None = None,
             verdicts: dict[str, str] | None = None) -> Basis:
    """Put runs and claims together; `pairs` are cells that two systems measured."""
    evidence = Evidence(claims, collection.runs, collection.cells, pairs, load_plan())
    stated = pd.DataFrame(columns=list(STATED_COLUMNS))
    return Basis(collection, Material(evidence, collection.study, known_datasets(), stated), verdicts or {})


def _on_grid_of(study: Study, claims: Claims) -> Claims:
    seeds = tuple(sorted(study.config["seeds"]))
    return replace(claims, tasks={
        task: TaskGrid(claims.tasks[task].scale, tuple(sorted(settings["lengths"])), seeds)
        for task, settings in study.config["tasks"].items() if task in claims.tasks})
