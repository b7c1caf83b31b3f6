"""Table of the datasets: identity, what a constant prediction scores, and what the leak checks found."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from qablate.analysis.formats import significant
from qablate.analysis.old_table import LENGTH, SEED, TASK, Content, number, text
from qablate.analysis.runs import Collection
from qablate.catalog import task_info
from qablate.study import MAX_SIDECAR_BYTES, DatasetSpec, known_dataset_sha256

SHOWN_DIGITS = 12


def datasets(collection: Collection) -> Content:
    """One row a dataset: hash, baselines, and the leak checks that its sidecar holds."""
    measured = collection.runs.dropna(subset="baseline_measured")
    by_results = measured.groupby(["task", "length", "seed"])["baseline_measured"].first().to_dict()
    rows = [_dataset_row(collection, spec, by_results.get((spec.task, spec.length, spec.seed)))
            for spec in collection.study.datasets]
    table = pd.DataFrame(rows).astype({"measured": "float64"})
    return Content(table, (
        TASK, LENGTH, SEED, text("hash"), text("file here", "file"), text("baseline is", "baseline"),
        number("nominal", show=significant),
        number("measured on the test split", "measured", significant, "measured_state"),
        text("measured in", "measured_in"), text("leak checks", "checks"),
    ))


def _dataset_row(collection: Collection, spec: DatasetSpec, by_results: float | None) -> dict[str, Any]:
    path = spec.path(collection.study.results)
    sidecar = _json(path.with_suffix(".json"))
    statistics, sha256 = sidecar.get("statistics"), sidecar.get("dataset_sha256")
    known = known_dataset_sha256(spec, collection.study.results) or sha256
    made = statistics.get("measured_baseline") if isinstance(statistics, dict) else None
    value = made if made is not None else by_results
    return {
        "task": spec.task, "title": spec.info.title, "length": spec.length, "seed": spec.seed,
        "hash": str(known)[:SHOWN_DIGITS] if known else "–", "dataset_sha256": known,
        "file": _file_state(sha256, known, path),
        "baseline": "majority rate" if task_info(spec.task).kind == "classification" else "MSE of the training mean",
        "nominal": spec.info.nominal_baseline, "measured": value,
        "measured_state": "" if value is not None else "not recorded",
        "measured_in": "dataset" if made is not None else "results" if value is not None else "–",
        "checks": _checks(path.with_suffix(".checks.json"), sha256),
    }


def _file_state(sha256: object, known: str | None, path: Path) -> str:
    if sha256 is None:
        return "not made here"
    if sha256 != known:
        return "another dataset"
    return "as published or first made" if path.exists() else "hash only"


def _checks(path: Path, sha256: object) -> str:
    """`all passed`, or the names of those that failed; checks of other bytes are none."""
    content = _json(path)
    found = content.get("checks")
    if not isinstance(found, list) or sha256 is None or content.get("dataset_sha256") != sha256:
        return "not run"
    failed = [str(check.get("name")) for check in found if isinstance(check, dict) and check.get("passed") is not True]
    return f"failed: {', '.join(failed)}" if failed else "all passed"


def _json(path: Path) -> Mapping[str, Any]:
    """A small JSON file as a mapping; empty for one that is not there or is none."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_SIDECAR_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
