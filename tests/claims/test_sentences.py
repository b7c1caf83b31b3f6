"""Sentences: a template for every verdict, numbers that stand in the table, words that no report may hold."""

import itertools
import math
import re

import founding
import jinja2
import numpy as np
import pandas as pd
import pytest
from synthetic import MODELS, QUANTUM_FEATURES, TWINS, claims, grid, row, study, without

from qablate.analysis.contrasts import Evidence
from qablate.analysis.evaluation import claims_table, evaluate_claims
from qablate.analysis.findings import Findings
from qablate.analysis.formats import fixed, significant, whole
from qablate.analysis.outcomes import MEASURES
from qablate.analysis.sentences import (
    QUESTIONS,
    TEMPLATES,
    advantage_allowed,
    answers,
    forbidden_wording,
    grouped,
    require_wording,
)
from qablate.errors import QablateError

NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)")
WORDS_WITH_NUMBERS = ("95% interval", "90% interval", "power of .8")


def some_grid(seed):
    """Effects, spreads and holes at random."""
    rng = np.random.default_rng(seed)
    effects = {model: float(rng.normal(0, 0.1)) for model in MODELS + TWINS}
    runs = grid(rng, effects, sd=float(rng.choice([0.02, 0.1])), per_length=float(rng.normal(0, 0.05)))
    return runs[rng.random(len(runs)) > rng.choice([0, 0.02, 0.4])]


def results_of(seed):
    return evaluate_claims(some_grid(seed), study(), claims())


@pytest.fixture(scope="module")
def results():
    return [result for seed in range(3) for result in results_of(seed)] + evaluate_claims(
        founding.runs(), study(), claims(), stated=founding.stated())


def test_every_verdict_of_every_kind_has_a_template():
    tested = ("mean_difference", "slope", "any_beats_all", "best_arm")
    counted = ("threshold", "reference", "bookkeeping")
    three = ("supported", "contradicted", "not enough data")
    expected = {*itertools.product((*tested, "all_of"), (*three, "equivalent", "undecided")),
                *itertools.product(counted, three)}
    assert expected <= set(TEMPLATES)
    assert {kind for kind, _ in TEMPLATES} == {*MEASURES, "all_of", "any_of", "equivalence"}


def values_of(table):
    """Every number a sentence may print: the columns of the table after each declared rounding."""
    found = {}
    for record in table.to_dict("records"):
        texts = set()
        for value in record.values():
            if isinstance(value, (int, float, np.integer)) and not isinstance(value, bool) and math.isfinite(value):
                texts |= {whole(value), significant(value, 2), significant(value, 3),
                          *(form for digits in (3, 4) for form in (fixed(digits)(value), f"{value:+.{digits}f}"))}
        found[record["id"]] = texts
    return found


def numbers_in(text):
    for words in WORDS_WITH_NUMBERS:
        text = text.replace(words, "")
    text = re.sub(r"\bx(?=\d)", "", text)
    return NUMBER.findall(text)


def test_every_number_of_a_sentence_is_in_its_row():
    for seed in range(3):
        found = results_of(seed)
        allowed = values_of(claims_table(found))
        for result in found:
            if result.claim.composite:      # counts of members
                n = len(result.member_verdicts)
                allowed[result.claim.id] |= {str(i) for i in range(n + 1)}
            unmatched = [n for n in numbers_in(result.sentence) if n not in allowed[result.claim.id]
                         and f"{n}".lstrip("+") not in allowed[result.claim.id] and n not in MODELS]
            assert not unmatched, (result.claim.id, result.sentence, unmatched)


def test_a_wrong_number_would_be_found():
    table = claims_table(results_of(0))
    allowed = values_of(table)[table["id"][0]]
    assert not [n for n in numbers_in("Supported: +0.98765 in R², n = 7") if n in allowed and n != "7"]


def test_sentences_start_with_the_verdict(results):
    for result in results:
        start = "Values only" if result.verdict == "descriptive" else result.verdict.capitalize()
        assert result.sentence.startswith(start)
        assert result.provisional == ("provisional: planned cells are missing" in result.sentence)
        assert "nan" not in result.sentence and "inf" not in result.sentence and "{" not in result.sentence


@pytest.mark.parametrize("seed", [*range(2), *[pytest.param(i, marks=pytest.mark.full) for i in range(2, 20)]])
def test_no_forbidden_words_on_any_grid(seed):
    found = results_of(seed)
    text = render("claims.md.j2", found) + render("questions.md.j2", found)
    assert all(result.sentence in text for result in found)
    assert forbidden_wording(text, found) == []


def render(template, found):
    environment = jinja2.Environment(loader=jinja2.PackageLoader("qablate.analysis", "templates"), trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    findings = Findings(tuple(found))
    return environment.get_template(template).render(
        groups=findings.groups, questions=findings.questions, controls=[], controls_complete=False)


@pytest.mark.parametrize("text", [
    "a significant effect", "differs significantly", "this proves it", "inverse scaling", "Inverse-scaling",
    "\N{FIRST PLACE MEDAL} 2d", "**best**", "is classically hard", "1b outperforms 3b", "a quantum advantage",
    "quantum features help", "the quantum benefit",
])
def test_forbidden_phrases(text):
    assert len(forbidden_wording(text)) == 1
    with pytest.raises(QablateError, match="report: "):
        require_wording(text)


def test_allowed_phrases():
    for text in ("three significant digits", "p = 0.01 by sign-flip test", "a sample proverb", "the best of nine"):
        assert require_wording(text) == text


def test_advantage_needs_twins_general_claims_and_controls():
    effects = {m: 0.2 for m in QUANTUM_FEATURES} | {"2a": 0.1, "2d": 0.1}
    found = evaluate_claims(grid(np.random.default_rng(0), effects, sd=0.02), study(), claims())
    verdicts = {result.claim.id: result.verdict for result in found}
    assert (verdicts["P9-copy"], verdicts["P10-copy"], verdicts["G1-copy"]) == ("supported",) * 3
    assert advantage_allowed(found, controls_complete=True)
    assert not advantage_allowed(found)
    without_twin = [result for result in found if not result.claim.id.startswith("P9-")]
    assert not advantage_allowed(without_twin, controls_complete=True)
    assert forbidden_wording("a quantum advantage", found, controls_complete=True) == []
    assert forbidden_wording("1b outperforms 3b", found) == []


def test_controls_are_complete_when_every_cell_of_them_is():
    cells = {cell for control in claims().controls.values() for cell in control.cells}
    runs = pd.DataFrame([row(arm.replace("+", "-"), task, length, seed, 0.5) for arm, task, length, seed in cells])
    whole = Evidence(claims(), runs).controls()
    assert Findings(controls=whole).controls_complete and whole["cells"].tolist() == [24, 396, 198, 36]
    last = without(runs, model="3b-chunk64", seed=2026)
    missing_one = Evidence(claims(), last).controls()
    assert not Findings(controls=missing_one).controls_complete
    assert missing_one.set_index("control")["complete"].to_dict()["chunk_sweep"] == 23
    assert not Findings(controls=Evidence(claims(), runs.head(0)).controls()).controls_complete
    assert not Findings().controls_complete


def test_groups_hold_every_claim_and_questions_name_claims(results):
    found = results[: len(claims().claims)]
    in_groups = [item["claim"].id for _, items in grouped(found) for item in items]
    assert sorted(in_groups) == sorted(claims().claims)
    assert {key for _, keys in QUESTIONS for key in keys} <= set(claims().claims)
    assert all(items for _, items in answers(found))
