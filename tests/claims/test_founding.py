"""The founding document's claims on its own printed results get the verdicts that the claims file states."""

import founding
import pandas as pd
import pytest
from synthetic import claims, study

from qablate.analysis.ceilings import SOLVER_COLUMNS
from qablate.analysis.evaluation import evaluate_claims

EXPECTED = {key: claim.on_founding_tables for key, claim in claims().claims.items() if claim.on_founding_tables}


@pytest.fixture(scope="module")
def results():
    none_known = pd.DataFrame(columns=list(SOLVER_COLUMNS))
    found = evaluate_claims(founding.runs(), study(), claims(), solvers=none_known, stated=founding.stated())
    return {result.claim.id: result for result in found}


@pytest.mark.parametrize("claim", EXPECTED)
def test_verdicts_on_the_printed_results(results, claim):
    assert results[claim].verdict == EXPECTED[claim]


def test_why(results):
    for claim in ("FD16", "FD17", "FD18", "FD19", "P6-forr"):
        assert results[claim].reason == "selected_on_test"
    for claim in ("FD05", "FD07", "FD12", "FD20"):
        assert results[claim].reason == "missing_arm"
    assert results["FD02"].outcome.values["wrong"] == 8      # 2a and 3a at all lengths
    wrong = [row["quantity"] for row in results["FD24"].outcome.details if row["holds"] is False]
    assert wrong == ["jobs_pending all selective_copy"]


def test_nothing_is_supported(results):
    """But for single slopes, whose three runs here are three times their printed mean."""
    alone = ("FD10-", "FD11-", "S2-copy-g")
    assert not [key for key, result in results.items() if result.verdict == "supported" and not key.startswith(alone)]
