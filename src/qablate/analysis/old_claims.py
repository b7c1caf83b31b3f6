"""Claims as data: `workflow/claims.yaml` read against a closed schema, templates expanded, rules between keys checked.

A claim names a contrast of arms on one task, a scope, a margin and a Holm family. What it says about results is
decided in `qablate.analysis.evaluation`; nothing here looks at results.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from qablate.analysis.old_statistics import blocks_needed, smallest_sign_flip_p, smallest_slope_p
from qablate.config import ConfigError, explain, read_yaml
from qablate.files import packaged_text

CLAIMS_PATH = Path("workflow/claims.yaml")
Weights = dict[str, float]
Pair = tuple[str, str]

NEEDS = {
    "mean_difference": ("hypothesis", "task", "contrast"), "slope": ("hypothesis", "task", "contrast"),
    "any_beats_all": ("task", "contrast"), "best_arm": ("task", "contrast"), "chance": ("task", "contrast"),
    "threshold": ("task", "contrast", "metric", "op", "value"), "reference": ("task", "solver", "op", "value"),
    "all_of": (), "any_of": (), "descriptive": ("contrast", "quantities"), "bookkeeping": ("quantities",),
    "not_estimable": ("needs_models",),
}
CONTRASTS = {
    "mean_difference": ({"plus", "minus"}, {"pairs"}, {"weights"}), "slope": ({"plus", "minus"}, {"models"}, {"pairs"}),
    "any_beats_all": ({"candidates", "rivals"},), "best_arm": ({"arms"},), "chance": ({"models"},),
    "threshold": ({"models"},), "descriptive": ({"models"},),
}
PLAIN_KEYS = ("hypothesis", "margin", "metric", "op", "value", "solver", "on_founding_tables")
"""Keys of a record that a claim takes over as they are, if they are there."""
TABLE_ROW = "blocks needed by family size: 1: 6, 2: 7, 5-6: 8, 7-12: 9, 13: 10, 66: 12"


class ClaimsError(ConfigError):
    """A claims file that cannot be evaluated."""


@dataclass(frozen=True)
class Scale:
    """How one run becomes a benefit (larger is better): its metric, baseline, margin and margin of a slope."""

    name: str
    metric: str
    baseline: float
    margin: float
    margin_slope: float


@dataclass(frozen=True)
class TaskGrid:
    """What is planned for one task: its scale, lengths and replicates (seeds)."""

    scale: Scale
    lengths: tuple[int, ...]
    replicates: tuple[int, ...]


@dataclass(frozen=True)
class Defaults:
    """Levels and smallest amounts of data that hold for all claims."""

    alpha: float
    interim_alpha: float
    min_blocks: int
    min_replicates: int
    min_lengths_slope: int


@dataclass(frozen=True)
class Claim:
    """One record of the claims file, its sets replaced by arms.

    `weights` maps arms to w_m of d_b = sum of w_m y[m, b]; `pairs` are [plus, minus]; `candidates` and `rivals` are
    those of `any_beats_all` (for `best_arm` both are all arms); `models` the arms of the remaining kinds.
    """

    id: str
    kind: str
    family: str
    tasks: tuple[str, ...]
    statement: str
    source: str
    hypothesis: str = "greater"
    scope: str = "these_models"
    attributes_to: str | None = None
    margin: float | None = None
    weights: Weights = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    candidates: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    metric: str = ""
    op: str = ""
    value: float | Mapping[str, float] = math.nan
    quantities: tuple[str, ...] = ()
    solver: str = ""
    needs_models: tuple[str, ...] = ()
    on_founding_tables: str = ""

    @property
    def task(self) -> str:
        """The task of a claim that has one; the first of several, or empty."""
        return self.tasks[0] if self.tasks else ""

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that enter, each once, in the order of the claims file."""
        return tuple(dict.fromkeys([*self.weights, *self.candidates, *self.rivals, *self.models]))

    @property
    def composite(self) -> bool:
        """Whether the verdict rests on other claims."""
        return self.kind in ("all_of", "any_of")


@dataclass(frozen=True)
class Control:
    """Cells that must be complete before the report may speak of an advantage: arm, task, length, replicate of each."""

    settles: str
    cells: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True)
class Claims:
    """A checked claims file: tasks, family sizes, defaults, claims by id in file order, controls by name."""

    tasks: Mapping[str, TaskGrid]
    families: Mapping[str, int]
    defaults: Defaults
    claims: Mapping[str, Claim]
    controls: Mapping[str, Control]

    def margin(self, claim: Claim) -> float:
        """Margin of a claim on the benefit scale of its task; per doubling of the length for a slope."""
        if claim.margin is not None:
            return claim.margin
        scale = self.tasks[claim.task].scale
        return scale.margin_slope if claim.kind == "slope" else scale.margin


def load_claims(path: Path = CLAIMS_PATH) -> Claims:
    """Read and check a claims file; anything wrong is a ClaimsError of one line that names file and claim."""
    try:
        return parse_claims(read_yaml(path))
    except ClaimsError as error:
        raise ClaimsError(f"{path}: {error}") from error


def parse_claims(content: Mapping[str, Any]) -> Claims:
    """Check the content of a claims file and resolve its sets, pairs and templates."""
    _check_schema(content)
    expanded = [*content["claims"], *(record for template in content["templates"]
                                      for record in _expand(template, content))]
    content = {**content, "claims": expanded, "templates": []}
    _check_schema(content)
    _check_ids(expanded)
    for name, arms in content["sets"].items():
        if len(arms) != len(set(arms)):
            raise ClaimsError(f"sets.{name}: an arm stands twice")
    scales = {name: Scale(name, scale["from"], scale["baseline"], scale["margin"], scale["margin_slope"])
              for name, scale in content["scales"].items()}
    claims = Claims(
        {task: TaskGrid(scales[grid["scale"]], tuple(sorted(grid["lengths"])), tuple(sorted(grid["replicates"])))
         for task, grid in content["tasks"].items()},
        {name: family["size"] for name, family in content["families"].items()},
        Defaults(**{key: value for key, value in content["defaults"].items()
                    if key not in ("scope", "attributes_to")}),
        {record["id"]: _claim(record, content) for record in expanded},
        {name: Control(control["settles"], tuple(_control_cells(control, content["tasks"])))
         for name, control in content["controls"].items()},
    )
    _check_families(claims, content["families"])
    _check_members(claims)
    return claims


def _control_cells(control: Mapping[str, Any], tasks: Mapping[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    for task in control["tasks"]:
        grid = {**_look_up(tasks, task, "tasks"), **control}
        yield from itertools.product(control["arms"], (task,), grid["lengths"], grid["replicates"])


@functools.cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(yaml.safe_load(packaged_text("schemas/claims.schema.yaml")))


def _check_schema(content: Mapping[str, Any]) -> None:
    try:
        errors = sorted(_validator().iter_errors(content), key=lambda error: [*map(str, error.absolute_path)])
    except (RecursionError, TypeError) as error:
        raise ClaimsError(f"claims cannot be checked: {error}") from error
    if errors:
        raise ClaimsError(_named(explain(errors[0]), content))


def _named(line: str, content: Mapping[str, Any]) -> str:
    """Write `claim P1-copy: kind: ...` for `claims.3.kind: ...`."""
    parts = line.split(".", 2)
    if parts[0] != "claims" or not parts[1].split(":")[0].isdigit():
        return line
    number = parts[1].split(":")[0]
    record = content["claims"][int(number)]
    name = record.get("id", number) if isinstance(record, Mapping) else number
    return f"claim {name}: {line.removeprefix(f'claims.{number}').lstrip('.: ')}"


def _expand(template: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one record per element of `over`, placeholders replaced."""
    over = template["over"]
    for task in over["tasks"]:
        for names, arms in _elements(over, content):
            record = {key: _filled(value, {**names, "task": task}) for key, value in template.items() if key != "over"}
            if isinstance(record.get("family"), Mapping):
                record["family"] = record["family"].get(task, "none")
            if arms is not None:
                record["contrast"] = {"arms": arms}
            yield {**record, "task": task}


def _elements(over: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], list[str] | None]]:
    if "pairs" in over:
        yield from (({"plus": plus, "minus": minus}, None)
                    for plus, minus in _look_up(content["pairs"], over["pairs"], "pairs"))
    elif "models" in over:
        yield from (({"x": arm}, None) for arm in _look_up(content["sets"], over["models"], "sets"))
    else:
        yield from (({"x": name}, arms) for name, arms in over.get("arms", {}).items())


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, Mapping):
        return {key: _filled(item, names) for key, item in value.items()}
    return [_filled(item, names) for item in value] if isinstance(value, list) else value


def _look_up(table: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in table:
        raise ClaimsError(f"{where}: no '{name}', known are {', '.join(table)}")
    return table[name]


def _check_ids(records: Iterable[Mapping[str, Any]]) -> None:
    double = [name for name, count in Counter(record["id"] for record in records).items() if count > 1]
    if double:
        raise ClaimsError(f"claim {double[0]}: the id stands twice")


def _claim(record: Mapping[str, Any], content: Mapping[str, Any]) -> Claim:
    """Resolve one record."""
    where, kind = f"claim {record['id']}", record["kind"]
    for key in NEEDS[kind]:
        if record.get(key) is None:
            raise ClaimsError(f"{where}: {key}: missing key of kind {kind}")
    tasks = record.get("task") or []
    tasks = tuple([tasks] if isinstance(tasks, str) else tasks)
    for task in tasks:
        if task not in content["tasks"]:
            raise ClaimsError(f"{where}: task: '{task}' is not under tasks")
    arms = _arms(record, content, where)
    plain: dict[str, Any] = {key: record[key] for key in PLAIN_KEYS if key in record}
    lists: dict[str, Any] = {key: tuple(record[key]) for key in ("quantities", "needs_models") if key in record}
    defaults: dict[str, Any] = {key: record.get(key, content["defaults"][key]) for key in ("scope", "attributes_to")}
    return Claim(id=record["id"], kind=kind, family=record["family"], tasks=tasks, statement=record["statement"],
                 source=record["source"], members=_members(record, content, where), **arms, **plain, **lists,
                 **defaults)


def _members(record: Mapping[str, Any], content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if record["kind"] not in ("all_of", "any_of"):
        return ()
    if ("members" in record) == ("members_from" in record):
        raise ClaimsError(f"{where}: one of members and members_from is needed")
    if "members" in record:
        return tuple(record["members"])
    family = record["members_from"]
    _look_up(content["families"], family, f"{where}: members_from")
    return tuple(other["id"] for other in content["claims"] if other["family"] == family)


def _arms(record: Mapping[str, Any], content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a Claim that say which arms enter, and with which weights."""
    kind, contrast = record["kind"], record.get("contrast", {})
    if kind not in CONTRASTS:
        return {}
    if set(contrast) not in CONTRASTS[kind]:
        allowed = " or ".join(" and ".join(sorted(keys)) for keys in CONTRASTS[kind])
        raise ClaimsError(f"{where}: contrast: a {kind} needs {allowed}")
    if "pairs" in contrast:
        pairs = tuple((plus, minus) for plus, minus in _look_up(content["pairs"], contrast["pairs"], f"{where}: pairs"))
        return {"pairs": pairs, "weights": _pair_weights(pairs)}
    if "weights" in contrast:
        return {"weights": _checked_weights(contrast["weights"], where)}
    lists = {key: _arm_list(names, content, f"{where}: contrast.{key}") for key, names in contrast.items()}
    if "plus" in lists:
        weights = {arm: 1 / len(lists["plus"]) for arm in lists["plus"]}
        weights |= {arm: -1 / len(lists["minus"]) for arm in lists["minus"]}
        if len(weights) < len(lists["plus"]) + len(lists["minus"]):
            raise ClaimsError(f"{where}: contrast: an arm is on both sides")
        return {"weights": weights}
    if "arms" in lists:
        return {"candidates": lists["arms"], "rivals": lists["arms"]}
    if kind == "slope":
        return {"weights": {arm: 1 / len(lists["models"]) for arm in lists["models"]}}
    return lists


def _pair_weights(pairs: Iterable[Pair]) -> Weights:
    pairs = list(pairs)
    weights: Weights = {}
    for plus, minus in pairs:
        weights[plus] = weights.get(plus, 0.0) + 1 / len(pairs)
        weights[minus] = weights.get(minus, 0.0) - 1 / len(pairs)
    return weights


def _checked_weights(weights: Mapping[str, float], where: str) -> Weights:
    if abs(sum(weights.values())) > 1e-9 or not any(weights.values()):
        raise ClaimsError(f"{where}: contrast.weights: sum to {sum(weights.values()):g}, must sum to 0")
    return {arm: weight for arm, weight in weights.items() if weight}


def _arm_list(names: str | list[str], content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if isinstance(names, str):
        return tuple(_look_up(content["sets"], names, where))
    pattern = _validator().schema["$defs"]["arm"]
    for arm in names:
        if not jsonschema.Draft202012Validator(pattern).is_valid(arm):
            raise ClaimsError(f"{where}: '{arm}' is not a model with tags, such as 1b or 1b+tanh")
    return tuple(names)


def _check_members(claims: Claims) -> None:
    for claim in claims.claims.values():
        for member in claim.members:
            if member not in claims.claims:
                raise ClaimsError(f"claim {claim.id}: members: no claim '{member}'")
            if claims.claims[member].composite:
                raise ClaimsError(f"claim {claim.id}: members: '{member}' has members itself")


def _check_families(claims: Claims, families: Mapping[str, Mapping[str, Any]]) -> None:
    """Sizes equal counts, tasks agree, and every member can reach its share of alpha with the planned blocks."""
    for claim in claims.claims.values():
        if claim.family not in families:
            raise ClaimsError(f"claim {claim.id}: family: no '{claim.family}', known are {', '.join(families)}")
    for name, family in families.items():
        members = [claim for claim in claims.claims.values() if claim.family == name]
        if not family["size"]:
            continue
        if len(members) != family["size"]:
            raise ClaimsError(f"families.{name}.size: {family['size']}, but {len(members)} claims are in it")
        for claim in members:
            if claim.tasks != (family["task"],):
                raise ClaimsError(f"claim {claim.id}: family {name} is of task {family['task']}")
            _check_attainable(claim, claims, family["size"])


def _check_attainable(claim: Claim, claims: Claims, size: int) -> None:
    grid = claims.tasks[claim.task]
    level = claims.defaults.alpha / size
    if claim.kind == "slope" or (claim.composite and all(claims.claims[key].kind == "slope" for key in claim.members
                                                         if key in claims.claims)):
        if claim.hypothesis != "equivalent" and smallest_slope_p(len(grid.lengths), len(grid.replicates)) > level:
            raise ClaimsError(f"claim {claim.id}: a slope over {len(grid.lengths)} lengths and {len(grid.replicates)} "
                              f"replicates cannot be supported in a family of {size}")
        return
    blocks = len(grid.lengths) * len(grid.replicates)
    resampled = claim.kind in ("mean_difference", "any_beats_all", "best_arm") and claim.scope == "these_models"
    if resampled and claim.hypothesis != "equivalent" and smallest_sign_flip_p(blocks) > level:
        raise ClaimsError(f"claim {claim.id}: {blocks} blocks cannot support a member of a family of {size}, it needs "
                          f"{blocks_needed(size, claims.defaults.alpha)} ({TABLE_ROW})")
