"""Claims on results as they lie in a study's folder, and how long all of them take."""


import numpy as np
from factories import published_study, write_results
from synthetic import MODELS, claims, grid, study

from qablate.analysis.evaluation import claims_table, evaluate_claims, write_claims
from qablate.analysis.runs import collect


def test_claims_on_collected_results(tmp_path):
    own = published_study(tmp_path)
    cells = [cell for cell in own.cells if cell.task == "forrelation"]
    write_results(own, [cell for cell in cells if cell.model != "4e"])
    write_results(own, [cell for cell in cells if cell.model == "4e" and cell.length == 50], status="diverged")
    collection = collect(own)
    found = {r.claim.id: r for r in evaluate_claims(collection.runs, own, claims(), cells=collection.cells)}
    assert found["C-1a"].verdict in ("supported", "equivalent", "undecided")
    assert (found["C-1a"].provisional, found["C-1a"].outcome.n) == (False, 4500)
    assert found["C-1a"].outcome.values["null"] < 0.52      # pooled labels of the published datasets
    last = found["C-4e"]
    assert (last.reason, last.provisional, last.outcome.n_used) == ("few_blocks", True, 3)
    assert found["P1-copy"].reason == "missing_arm"
    assert found["P1-forr"].verdict == "not enough data"


def test_all_claims_are_written(tmp_path):
    runs = grid(np.random.default_rng(0), models=MODELS)
    results = evaluate_claims(runs, study(), claims())
    write_claims(results, tmp_path)
    assert len(runs) == 396 and len(claims_table(results)) == len(claims().claims)
