"""What the report compares and the statements it checks, read from `workflow/claims.yaml` and checked.

Every record of the file is one line: a `Contrast` or a `Statement`, whose fields are the allowed keys. Nothing here
looks at results.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qablate.catalog import METRICS, MODELS, TASKS, task_info
from qablate.config import ConfigError, read_yaml
from qablate.files import in_workflow
from qablate.study import Study

CLAIMS_PATH = Path("workflow/claims.yaml")
KINDS = ("difference", "slope", "chance")
VERDICTS = ("higher", "lower", "equivalent")
EACH = ("each",)
PARTS = ("questions", "contrasts", "statements")
ALLOWED: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
    str: (lambda value: isinstance(value, str), "text"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    float | None: (lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max, "a number"),
    tuple[str, ...]: (lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
                      "a list of names")}
"""What a field of a record may hold, by its type."""


@dataclass(frozen=True)
class Contrast:
    """One row of the comparisons per task: mean of `plus` minus mean of `minus`; `kind` says of what.

    `table` is the Holm family, unless the row is `alone`; `label` makes it an answer to its `question`. No `tasks`:
    all of the study. `margin` replaces that of the task's scale; `caveat` is a fact of the design to be printed.
    """

    id: str
    table: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    question: str = ""
    tasks: tuple[str, ...] = ()
    kind: str = "difference"
    label: str = ""
    alone: bool = False
    margin: float | None = None
    caveat: str = ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The models at the same place of the two lists, if it is made of several such pairs."""
        return list(zip(self.plus, self.minus, strict=True)) if len(self.plus) == len(self.minus) > 1 else []

    def over(self, models: Iterable[str]) -> "list[Contrast]":
        """This contrast, or where `plus` is `each` one per model that it is not held against, named `id-model`."""
        if self.plus != EACH:
            return [self]
        return [replace(self, id=f"{self.id}-{model}", plus=(model,), label=self.label and f"{model} {self.label}")
                for model in models if model not in self.minus]


@dataclass(frozen=True)
class Statement:
    """A statement to check: a threshold on the means of `models` at every length, or a verdict of all `contrasts`."""

    statement: str
    tasks: tuple[str, ...]
    contrasts: tuple[str, ...] = ()
    verdict: str = ""
    models: tuple[str, ...] = ()
    metric: str = ""
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Claims:
    """A checked claims file: questions by id, contrasts with `plus: each` written out, statements."""

    questions: Mapping[str, str]
    contrasts: tuple[Contrast, ...]
    statements: tuple[Statement, ...]


def load_claims(study: Study, path: Path = CLAIMS_PATH) -> Claims:
    """Read the contrasts and statements that a study's models and tasks allow; no file, none.

    A ConfigError of one line names the file, the record and what is allowed.
    """
    path = in_workflow(path)
    content = read_yaml(path) if path.exists() else {}
    _require(set(content) <= set(PARTS), f"{path}", "keys", sorted(set(content) - set(PARTS), key=str), PARTS)
    questions = content.get("questions") or {}
    if not isinstance(questions, Mapping):
        raise ConfigError(f"{path}: questions: must map ids to text")
    for key, text in questions.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ConfigError(f"{path}: questions.{key}: must map an id that is text to text")
    models, tasks = sorted(study.config["models"]), list(study.config["tasks"])
    declared = [_contrast(*record, questions, tasks) for record in _records(content, "contrasts", path)]
    written_out = [contrast for one in declared for contrast in one.over(MODELS)]
    ids = [contrast.id for contrast in written_out]
    if len(ids) > len(set(ids)):
        raise ConfigError(f"{path}: contrasts: id '{max(ids, key=ids.count)}' is there twice")
    statements = [_statement(*record, written_out) for record in _records(content, "statements", path)]
    contrasts = tuple(
        replace(contrast, tasks=tuple(task for task in tasks if task in (contrast.tasks or tasks)))
        for one in declared for contrast in one.over(models) if {*contrast.plus, *contrast.minus} <= set(models))
    ids = [contrast.id for contrast in contrasts]
    return Claims(questions, contrasts, tuple(
        one for one in statements
        if set(one.tasks) <= set(tasks) and set(one.models) <= set(models) and set(one.contrasts) <= set(ids)))


def _records(content: Mapping[str, Any], key: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each record of a list with the words that name it in an error."""
    if not isinstance(content.get(key) or [], list):
        raise ConfigError(f"{path}: {key}: must be a list of records")
    for number, record in enumerate(content.get(key) or []):
        name = record.get("id", number) if isinstance(record, Mapping) else number
        yield f"{path}: {key}.{name}", record


def _contrast(where: str, record: Any, questions: Collection[str], tasks: Collection[str]) -> Contrast:
    if isinstance(record, Mapping) and record.get("plus") == "each":
        record = {**record, "plus": list(EACH)}
    one = Contrast(**_values(Contrast, record, where))
    for key in ("id", "table"):
        _require(bool(getattr(one, key)), where, key, "empty", ["words"])
    _require(one.kind in KINDS, where, "kind", one.kind, KINDS)
    _require(one.question in ("", *questions), where, "question", one.question, questions)
    _require(bool(one.minus) == (one.kind == "difference") or one.kind == "slope", where, "minus", list(one.minus),
             ["models for a difference", "none for chance"])
    _require(set(one.tasks) <= set(TASKS), where, "tasks", list(one.tasks), TASKS)
    if one.kind == "chance":
        scored = [task for task in one.tasks or tasks if task_info(task).kind != "classification"]
        classes = [task for task, info in TASKS.items() if info.kind == "classification"]
        _require(not scored, where, "tasks of kind chance", scored, classes)
    if one.margin is not None:
        _require(one.margin > 0, where, "margin", one.margin, ["numbers above 0"])
    _require(bool(one.plus), where, "plus", [], MODELS)
    models = {*one.plus, *one.minus} if one.plus != EACH else set(one.minus)    # `each` stands alone
    _require(models <= set(MODELS), where, "plus, minus", sorted(models - set(MODELS)), MODELS)
    both = sorted(set(one.plus) & set(one.minus))
    _require(not both, where, "plus, minus", f"{both} on both sides", ["models on one side each"])
    return one


def _statement(where: str, record: Any, contrasts: Collection[Contrast]) -> Statement:
    one = Statement(**_values(Statement, record, where))
    _require(set() < set(one.tasks) <= set(TASKS), where, "tasks", list(one.tasks), TASKS)
    _require(set(one.models) <= set(MODELS), where, "models", list(one.models), MODELS)
    on_tasks = [contrast.id for contrast in contrasts if set(one.tasks) <= set(contrast.tasks or one.tasks)]
    _require(set(one.contrasts) <= set(on_tasks), where, "contrasts", list(one.contrasts), on_tasks)
    if one.contrasts and not (one.models or one.metric):
        _require(one.verdict in VERDICTS, where, "verdict", one.verdict, VERDICTS)
    elif one.contrasts or not (one.models and one.metric and (one.above is None) != (one.below is None)):
        raise ConfigError(f"{where}: needs contrasts and verdict, or models, metric and one of above and below")
    for task in one.tasks if one.metric else ():
        metrics = METRICS[task_info(task).kind]
        _require(one.metric in metrics, where, f"metric of {task}", one.metric, metrics)
    return one


def _values(kind: type, record: Any, where: str) -> dict[str, Any]:
    """Return the values of a record as the fields of its class want them, lists as tuples."""
    if not isinstance(record, Mapping):
        raise ConfigError(f"{where}: must be a record of keys and values")
    known = {field.name: field for field in fields(kind)}
    _require(set(record) <= set(known), where, "keys", sorted(set(record) - set(known), key=str), known)
    for name, field in known.items():
        if field.default is MISSING and name not in record:
            raise ConfigError(f"{where}: {name}: missing")
        if name in record:
            is_allowed, words = ALLOWED[field.type]
            if not is_allowed(record[name]):
                raise ConfigError(f"{where}: {name}: {record[name]!r} is not {words}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def _require(condition: bool, where: str, key: str, value: object, allowed: Iterable[str]) -> None:
    if not condition:
        raise ConfigError(f"{where}: {key}: {value}, allowed are {', '.join(allowed)}")
