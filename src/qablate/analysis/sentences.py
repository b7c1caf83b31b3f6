"""Sentences of the claims: one template for each (kind, verdict), filled with numbers that stand in the claims table.

There is no free text about results. `forbidden_wording` says which phrases a rendered report may not hold.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qablate.analysis.formats import Format, fixed, signed, significant, whole
from qablate.errors import QablateError

if TYPE_CHECKING:
    from qablate.analysis.evaluation import ClaimResult

TESTED = ("mean_difference", "slope", "any_beats_all", "best_arm")
JOINT = ("all_of", "any_of")
COUNTED = ("threshold", "reference", "bookkeeping")
REASON_WORDS = {
    "few_blocks": "too few matched blocks", "few_replicates": "too few replicates", "few_lengths": "too few lengths",
    "missing_arm": "an arm or value is not observed", "selected_on_test": "scores were selected on the test set",
    "dataset_mismatch": "datasets differ or are unverified", "config_mismatch": "settings differ",
    "confounded_system": "arms ran on different systems",
    "confounded_params": "parameter counts differ more than twofold",
    "confounded_chunking": "chunking differs", "confounded_other_factor": "a second factor differs",
    "not_estimable": "no contrast of the models at hand answers it",
}
FLAG_WORDS = {
    "provisional": "provisional: planned cells are missing",
    "depends_on_failed_cells": "depends on failed cells: at the baseline they change the result",
    "detectable_below_margin": "a difference is detectable but below the margin",
    "seed_dependent": "not of one sign in every replicate",
    "member_unadjusted": "member of a joint claim, p not adjusted",
}

_EFFECT = "{effect} (95% interval {low} to {high}, n = {n} {units}); p = {p}, after Holm {p_holm} in a family of {size}"
_EQUAL = "{effect} (90% interval {low90} to {high90}, margin {margin}, n = {n} {units}); equivalence p = {p_tost}, " \
         "after Holm {p_tost_holm} in a family of {size}"
_NOT_ENOUGH = "Not enough data: {reason}. {used} of {planned} {usable} usable."
_JOINT = "of the members {counts}; p = {p}, after Holm {p_holm} in a family of {size}"
_CHANCE = "accuracy {accuracy} against {null} for a constant prediction ({hits} of {n} test items, 95% interval " \
          "{low_accuracy} to {high_accuracy}); p = {p}, after Holm {p_holm} in a family of {size}"
_OBSERVED = "{k} of {m} observed, {unobserved} unobserved"

TEMPLATES: Mapping[tuple[str, str], str] = {
    **{(kind, verdict): f"{verdict.capitalize()}: {_EFFECT}." for kind in TESTED[:2]
       for verdict in ("supported", "contradicted")},
    **{(kind, "equivalent"): f"Equivalent within the margin: {_EQUAL}." for kind in TESTED},
    ("equivalence", "supported"): f"Supported: {_EQUAL}.",
    **{(kind, "undecided"): f"Undecided: {_EFFECT}; {{needed}}." for kind in TESTED[:2]},
    **{(kind, "supported"): f"Supported by {{best}}, whose smallest lead is over {{rival}}: {_EFFECT}."
       for kind in TESTED[2:]},
    **{(kind, "contradicted"): f"Contradicted: none leads by the margin; the closest is {{best}} against {{rival}}: "
       f"{_EFFECT}." for kind in TESTED[2:]},
    **{(kind, "undecided"): f"Undecided: leader and those not separable from it: {{ties}}; {{best}} against {{rival}}: "
       f"{_EFFECT}; {{needed}}."
       for kind in TESTED[2:]},
    **{(kind, "not enough data"): _NOT_ENOUGH for kind in (*TESTED, "chance")},
    ("chance", "supported"): f"Supported: {_CHANCE}.",
    ("chance", "equivalent"): f"Equivalent to chance within the margin {{margin}}: {_CHANCE}.",
    ("chance", "undecided"): f"Undecided: {_CHANCE}.",
    **{(kind, "supported"): f"Supported: {_OBSERVED}, none on the wrong side." for kind in COUNTED},
    **{(kind, "contradicted"): f"Contradicted: {{wrong}} on the wrong side; {_OBSERVED}." for kind in COUNTED},
    **{(kind, "not enough data"): f"Not enough data: {_OBSERVED}." for kind in (*COUNTED, "descriptive")},
    ("descriptive", "descriptive"): f"Values only: {_OBSERVED}.",
    ("not_estimable", "not enough data"): "Not enough data: {reason}; needed are the models {needs}.",
    **{("all_of", verdict): f"{verdict.capitalize()}: {_JOINT}."
       for verdict in ("supported", "contradicted", "undecided")},
    ("any_of", "supported"): f"Supported by {{best}}: {_JOINT}.",
    ("any_of", "undecided"): f"Undecided: {_JOINT}.",
    **{(kind, "equivalent"): "Equivalent within the margin: of the members {counts}." for kind in JOINT},
    **{(kind, "not enough data"): "Not enough data: {reason}; of the members {counts}." for kind in JOINT},
}
"""Sentence by (kind, verdict). Numbers are those of the claims table after the rounding of `fields`."""

SCALE_FORMATS: Mapping[str, Format] = {"neg_ln_mse": signed(3), "r2": signed(3), "accuracy": signed(4), "": signed(3)}
PER_DOUBLING = {"neg_ln_mse": "-ln MSE per doubling", "r2": "R² per doubling", "accuracy": "accuracy per doubling"}
UNITS = {"neg_ln_mse": "-ln MSE", "r2": "R²", "accuracy": "accuracy"}


def sentence(result: "ClaimResult") -> str:
    """Return verdict and numbers of a claim in words, flags after them."""
    shows_equivalence = result.claim.hypothesis == "equivalent" and result.verdict == "supported"
    kind = "equivalence" if shows_equivalence else result.claim.kind
    text = TEMPLATES[kind, result.verdict].format_map(fields(result))
    notes = [FLAG_WORDS[flag] for flag in result.flags]
    return text if not notes else f"{text} [{'; '.join(notes)}]"


def fields(result: "ClaimResult") -> dict[str, str]:
    """Return every placeholder's text; numbers that are not there are a dash."""
    outcome, adjusted, values = result.outcome, result.adjusted, result.outcome.values
    show = SCALE_FORMATS[result.scale]
    verdicts = list(result.member_verdicts.values())
    return {
        "effect": _effect(result), "low": _shown(show, outcome.ci95.low), "high": _shown(show, outcome.ci95.high),
        "low90": _shown(show, outcome.ci90.low), "high90": _shown(show, outcome.ci90.high),
        "margin": _shown(fixed(3), outcome.margin), "n": whole(outcome.n), "units": outcome.units,
        "p": _p(outcome.p), "p_holm": _p(min(adjusted.p_for, adjusted.p_against)), "p_tost": _p(outcome.tost),
        "p_tost_holm": _p(adjusted.tost), "size": whole(result.family_size or 1),
        "usable": "blocks" if outcome.units in ("pairs", "test items") else outcome.units,
        "reason": REASON_WORDS.get(result.reason, ""), "used": whole(outcome.n_used),
        "planned": whole(outcome.n_planned), "best": outcome.best, "rival": str(values.get("closest_rival", "")),
        "ties": str(values.get("not_separable", "")), "needs": str(values.get("needs", "")),
        "hits": whole(values.get("hits", 0)), "accuracy": _value(values, "accuracy", fixed(4)),
        "null": _value(values, "null", fixed(4)), "low_accuracy": _value(values, "low95_accuracy", fixed(4)),
        "high_accuracy": _value(values, "high95_accuracy", fixed(4)), "k": _value(values, "observed", whole),
        "m": _value(values, "of", whole), "unobserved": _value(values, "unobserved", whole),
        "wrong": _value(values, "wrong", whole), "counts": _counts(verdicts), "needed": _needed(result),
    }


def _shown(show: Format, value: float) -> str:
    return show(value) if math.isfinite(value) else "–"


def _value(values: Mapping[str, Any], key: str, show: Format) -> str:
    return _shown(show, values.get(key, math.nan))


def _p(value: float) -> str:
    return significant(value, 2)


def _effect(result: "ClaimResult") -> str:
    """The estimate with its scale; that of an error also as what the error is divided by."""
    value = result.outcome.value
    names = PER_DOUBLING if result.claim.kind == "slope" else UNITS
    text = f"{_shown(SCALE_FORMATS[result.scale], value)} in {names.get(result.scale, 'benefit')}"
    if result.scale == "neg_ln_mse" and math.isfinite(value):
        text += f", the MSE divided by {significant(math.exp(value))}"
    return text


def _needed(result: "ClaimResult") -> str:
    if result.blocks_for_power is None:
        return "the number of blocks for a power of .8 at the margin is not known"
    return f"a power of .8 at the margin needs {whole(result.blocks_for_power)} blocks"


def _counts(verdicts: list[str]) -> str:
    """`3 of 8 supported, 5 not enough data`."""
    words = [verdict for verdict in ("supported", "contradicted", "equivalent", "undecided", "not enough data")
             if verdict in verdicts]
    first, *rest = [f"{verdicts.count(word)} {word}" for word in words] or ["0 supported"]
    return ", ".join([f"{first.split(' ', 1)[0]} of {len(verdicts)} {first.split(' ', 1)[1]}", *rest])


ADVANTAGE = re.compile(r"quantum (advantage|benefit)|advantage of quantum|"
                       r"quantum (models? |parts? |features? )?helps?\b", re.IGNORECASE)
FORBIDDEN: Mapping[str, re.Pattern[str]] = {
    "significant without test and p": re.compile(r"\b(?:in)?significant(?:ly)?\b(?! digits)", re.IGNORECASE),
    "proves": re.compile(r"\bprove[sdn]?\b", re.IGNORECASE),
    "inverse scaling": re.compile(r"\binverse[ -]scaling\b", re.IGNORECASE),
    "medal": re.compile(r"[\U0001F947\U0001F948\U0001F949]|\b(?:gold|silver|bronze) medal", re.IGNORECASE),
    "bold best": re.compile(r"\*\*best\*\*", re.IGNORECASE),
    "classically hard": re.compile(r"\bclassically hard\b", re.IGNORECASE),
}
OUTPERFORMS = re.compile(r"\boutperform(?:s|ed|ing)?\b", re.IGNORECASE)
TWINS = ("P9", "P10")


def forbidden_wording(text: str, results: Iterable["ClaimResult"] = (), controls_complete: bool = False) -> list[str]:
    """Return the rule that each forbidden phrase of a rendered text breaks, with the phrase; empty if none.

    Words of advantage need what `advantage_allowed` asks for; "outperforms" needs any supported claim.
    """
    results = list(results)
    found = [f"{rule}: '{match.group()}'" for rule, pattern in FORBIDDEN.items() for match in pattern.finditer(text)]
    if not any(result.verdict == "supported" for result in results):
        found += [f"outperforms without a supported claim: '{match.group()}'" for match in OUTPERFORMS.finditer(text)]
    if not advantage_allowed(results, controls_complete):
        found += [f"advantage without supported twins and general claim: '{match.group()}'"
                  for match in ADVANTAGE.finditer(text)]
    return found


def advantage_allowed(results: Iterable["ClaimResult"], controls_complete: bool = False) -> bool:
    """Whether twins (P9, P10) and a general claim (G1 or G2) are supported on one task, none provisional.

    `controls_complete` says that the tuning and chunk controls were run to their end, which no claim holds.
    """
    supported = {result.claim.id for result in results if result.verdict == "supported" and not result.provisional}
    tasks = [task for task in ("adding", "copy", "forr") if {f"{twin}-{task}" for twin in TWINS} <= supported]
    return controls_complete and any({f"G1-{task}", f"G2-{task}"} & supported for task in tasks)


def require_wording(text: str, results: Iterable["ClaimResult"] = (), controls_complete: bool = False) -> str:
    """Return the text, or raise a QablateError that names the first forbidden phrase."""
    found = forbidden_wording(text, results, controls_complete)
    if found:
        raise QablateError(f"report: {found[0]}")
    return text


GROUPS = (
    ("Primary claims", ("P_", "S_", "S2-")), ("Claims about a factor in general", ("G_",)),
    ("Claims of the founding document", ("FD",)), ("Models against their classical counterparts", ("M_",)),
    ("Placement of the quantum part", ("L_",)), ("Chance level", ("C_",)),
)
QUESTIONS = (
    ("Does quantum give an advantage over classical?", ("P3-forr", "P3-adding", "P3-copy", "P9-forr", "P9-adding",
                                                        "P9-copy", "P10-forr", "P10-adding", "P10-copy")),
    ("Where: in the features or in the mixing?", ("G1-forr", "G1-adding", "G1-copy", "G2-forr", "G2-adding",
                                                  "G2-copy")),
    ("Which architecture?", ("P5-adding", "P5-copy", "FD05", "FD06", "FD07", "FD08", "FD09")),
    ("How does each scale with length?", ("S1-adding", "S1-copy", "S2-copy", "S1-forr", "FD10", "FD11")),
    ("Why is Forrelation hard?", ("P6-forr", "FD23", "FD19")),
    ("Is end-to-end quantum worth it?", ("FD20", "FD21", "L-forrelation-attention", "L-forrelation-mamba",
                                         "L-forrelation-hydra", "L-adding_problem-attention", "L-adding_problem-mamba",
                                         "L-adding_problem-hydra", "L-selective_copy-attention",
                                         "L-selective_copy-mamba", "L-selective_copy-hydra")),
)
"""The study's questions and the claims that answer them, for the report's first page."""


def shown(result: "ClaimResult") -> dict[str, Any]:
    """Return what a template prints of one claim: the result's parts, cells of a table, and notes on flags."""
    texts = fields(result)
    show = SCALE_FORMATS[result.scale]
    interval = result.outcome.ci95
    known = math.isfinite(interval.low)
    return {
        "claim": result.claim, "verdict": result.verdict, "reason": result.reason, "sentence": result.sentence,
        "reason_words": REASON_WORDS.get(result.reason, FLAG_WORDS.get(result.reason, "")),
        "notes": [FLAG_WORDS[flag] for flag in result.flags],
        "fields": {"estimate": _shown(show, result.outcome.value),
                   "interval": f"{texts['low']} to {texts['high']}" if known else "–",
                   "n": _units(result.outcome.n, result.outcome.units), "p_holm": texts["p_holm"] if known else "–"},
    }


def _units(n: int, units: str) -> str:
    return f"{whole(n)} {units.removesuffix('s') if n == 1 else units}"


def grouped(results: Iterable["ClaimResult"]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the claims by section of the report, in the order of the claims file; empty sections are left out.

    Claims without a family follow the prefix of their id.
    """
    results = list(results)
    groups = [(title, [shown(result) for result in results
                       if (result.claim.family if result.family_size else result.claim.id).startswith(prefixes)])
              for title, prefixes in GROUPS]
    return [(title, chosen) for title, chosen in groups if chosen]


def answers(results: Iterable["ClaimResult"]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the study's questions, each with the claims that answer it."""
    by_id = {result.claim.id: result for result in results}
    return [(question, [shown(by_id[key]) for key in keys if key in by_id]) for question, keys in QUESTIONS]
