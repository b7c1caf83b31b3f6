"""The 396 cells of the published study keep their settings, their datasets and where these lie."""

import hashlib
from pathlib import Path

from qablate.study import Study

CELLS_SHA256 = "2e0f14faea9acb4a9bdc8b8fd7abb25f533b113dd785f02cc59eefa2bf661847"


def test_nothing_that_results_are_judged_by_has_moved():
    """Changes only when the numbers of a model change on purpose (`code_version`): every result is stale then."""
    study = Study.load([Path(__file__).parents[1] / "config.yaml"])
    lines = [
        f"{study.cell_key(cell)} {study.settings_sha256(cell)} {spec.identity_json} {study.dataset_path(cell)}"
        for cell in study.cells
        for spec in [study.dataset(cell.task, cell.length, cell.seed)]
    ]
    assert len(lines) == 396
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == CELLS_SHA256
