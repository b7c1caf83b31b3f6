"""Files as the published code left them on two systems, sound ones and every kind of broken one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import factories

from qablate.records import METRICS
from qablate.results import Verdict, merge
from qablate.study import Cell, Study

ADDING = Cell("1b", "adding_problem", 100, 2024)
COPY = Cell("2a", "selective_copy", 200, 2025)
FORRELATION = Cell("3a", "forrelation", 50, 2026)
FIXTURES = Path(__file__).parents[1] / "data" / "import_fixtures"
LOG = """\
Model ID: {model} (AnyName)
Task: {task} (regression)
Sequence Length: {length}
Seed: {seed}
Model parameters: 35,836

Epoch   1/100 (1.1s) * | Train MSE: 0.160000 | Val MSE: 0.150000
Epoch  10/100 (1.2s) * | Train MSE: 0.001222 | Val MSE: {best:.6f}
Epoch  30/100 (1.2s) | Train MSE: 0.001467 | Val MSE: 0.009000
Early stopping at epoch 30 (no improvement for 20 epochs)
"""
LOG_RESULTS = """\
Total Time: 33.30s (0.56 min)
Best Val MSE: {best:.6f}
Test Results:
  MSE: {mse:.6f}
  MAE: 0.027700
  R²: 0.9922
Results saved to: results/somewhere.json
"""


def study_with(folder: Path, **changes: Any) -> Study:
    """The published study with sources nersc (results and logs) and dgx below `folder`."""
    for name in ("nersc/logs", "dgx"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    systems = {"nersc": {"results": str(folder / "nersc"), "logs": str(folder / "nersc/logs")},
               "dgx": {"results": [str(folder / "dgx")]}}
    return factories.published_study(folder / "results", **{"systems": systems, **changes})


def text_of(study: Study, cell: Cell, changes: Mapping[str, Any] | None = None, version: int = 1) -> str:
    """A sound result of a cell as text, with top-level keys replaced; NaN is written as the published code did."""
    record, changes = factories.record_of(study, cell), changes or {}
    if version == 1:
        record = factories.schema1_of(record)
    if version == 1 and cell.task == "forrelation":
        record["test_acc"] = record["best_val_metric"]
    followed = {"status": "ok", **record, **changes}
    if all(isinstance(followed.get(key), float) for key in METRICS["regression"]):
        changes = {**factories.following(followed, changes, factories.variance_of(study, cell)), **changes}
    return json.dumps({**record, **changes}, indent=2)


def put(folder: Path, cell: Cell, content: str | bytes) -> Path:
    """Write a result file of a cell into a source."""
    path = folder / cell.result_name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_log(folder: Path, cell: Cell, best: float = 0.0011, mse: float | None = 0.0012, name: str = "") -> Path:
    """Write the log of a regression cell; without `mse` it ends before the results."""
    text = LOG.format(**vars(cell), best=best) + (LOG_RESULTS.format(best=best, mse=mse) if mse is not None else "")
    path = folder / (name or f"syn_{cell.name}.out")
    path.write_text(text)
    return path


def verdict_of(folder: Path, cell: Cell, changes: Mapping[str, Any] | None = None, source: str = "dgx") -> Verdict:
    """The verdict of a result of a cell with these changes, the only file there is."""
    study = study_with(folder)
    put(folder / source, cell, text_of(study, cell, changes))
    return only(study)


def lay(path: Path, kind: str) -> None:
    """Put what is no file at a path: a folder, a pipe, or a link to itself, to nothing or to a device."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"broken link": "nowhere", "loop": path.name, "device": "/dev/zero"}[kind])


def only(study: Study) -> Verdict:
    """The verdict of the only file there is."""
    (verdict,) = merge(study).verdicts
    return verdict
