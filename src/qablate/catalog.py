"""The models and tasks of the study as data: names, factors, shapes, versions.

Layer 0: imports neither torch nor pandas, so that a dry run of thousands of cells takes seconds. How a model is built
is in `qablate.models`, how a dataset is made in `qablate.tasks`; what both and the workflow agree on is here.
Schemas, shapes and the words of tables follow from the entries: docs/adding.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast

from qablate.errors import QablateError

TaskKind = Literal["classification", "regression"]
Parameter = int | str
Size = int | str | Callable[[Mapping[str, Parameter]], int]
"""A number, the name of the task parameter that holds it, or a function of the task's parameters."""
METRICS = {
    "regression": ("test_mse", "test_mae", "test_r2"),
    "classification": ("test_acc", "test_auc", "test_f1", "test_loss"),
}
MODEL_ID = "[A-Za-z0-9]+"
TASK_ID = "[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
"""What ids look like, in file names and logs too."""
TAG = "[a-z][a-z0-9]*"
"""What tags of variants look like."""
MODEL_TOKEN, TASK_TOKEN = f"{MODEL_ID}(?:-{TAG})*", f"{TASK_ID}(?:-{TAG})*"
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class ModelInfo:
    """One of the models.

    `features` and `mixing` use the words of the published result files (`classical`, `quantum`,
    `quantum_superposition`). `chunk` is the number of steps that one circuit or pooled token covers; 1 where a model
    reads single steps. `code_version` is raised by hand when the numbers of a model change; results of an older
    version are then no longer valid.
    """

    id: str
    name: str
    group: int
    features: str
    mixing: str
    architecture: str
    chunk: int
    code_version: int = 1

    def __post_init__(self) -> None:
        _require(re.fullmatch(MODEL_ID, self.id), f"model id '{self.id}' must consist of letters and digits")
        for name in (self.features, self.mixing):
            _require(name in _LETTER, f"model {self.id}: '{name}' is not one of {', '.join(_LETTER)}")
        for key in ("group", "chunk", "code_version"):
            value = getattr(self, key)
            _require(type(value) is int and value > 0, f"model {self.id}: {key} {value!r} is no whole number above 0")

    @property
    def quantum_features(self) -> bool:
        """Whether the feature extractor holds a circuit."""
        return self.features != "classical"

    @property
    def quantum_mixing(self) -> bool:
        """Whether the sequence mixing holds a circuit."""
        return self.mixing != "classical"

    @property
    def notation(self) -> str:
        """The users' short form, features then mixing: `Q→C`, `C→Q(S)`; S stands for superposition."""
        return f"{_LETTER[self.features]}→{_LETTER[self.mixing]}"

    def ignores(self, setting: str) -> str | None:
        """Say why a setting of the models has no effect on this one; None if it has one."""
        if setting in ("circuit", "n_layers", "train_angles") and not (self.quantum_features or self.quantum_mixing):
            return f"{self.id} has no circuit"
        if setting == "hand_over" and not (self.quantum_features and self.mixing == "quantum_superposition"):
            return f"in {self.id} no circuit hands a state to another"
        if setting == "d_state" and (self.architecture not in ("mamba", "hydra") or self.quantum_mixing):
            return f"{self.id} has no recurrent state"
        return None


AS_PUBLISHED: Mapping[str, Parameter] = MappingProxyType({"circuit": "exact", "train_angles": True, "hand_over": True})
"""What the published models are, in the words of settings that only variants change."""


class _ByToken(dict[str, _Entry]):
    """Entries by id; the token of a variant (`1b-tanh`) finds its base's, the tags in its name, but is no key."""

    def __missing__(self, token: str) -> _Entry:
        base, dash, tags = token.partition("-")
        if not dash or base not in self:
            raise KeyError(token)
        entry: Any = self[base]
        named = "name" if isinstance(entry, ModelInfo) else "title"
        return cast(_Entry, replace(entry, **{named: f"{getattr(entry, named)}-{tags}"}))


def _by_token(*entries: _Entry) -> Mapping[str, _Entry]:
    ids = [cast(Any, entry).id for entry in entries]
    _require(len(ids) == len(set(ids)), f"id '{max(ids, key=ids.count)}' is there twice")
    return MappingProxyType(_ByToken(zip(ids, entries, strict=True)))


def _require(met: object, problem: str) -> None:
    if not met:
        raise QablateError(f"catalog: {problem}")


_LETTER = {"classical": "C", "quantum": "Q", "quantum_superposition": "Q(S)"}
_Q, _C, _S = "quantum", "classical", "quantum_superposition"

MODELS: Mapping[str, ModelInfo] = _by_token(
    ModelInfo("1a", "QuantumTransformer", 1, _Q, _C, "transformer", 16),
    ModelInfo("1b", "QuantumMambaSSM", 1, _Q, _C, "mamba", 32),
    ModelInfo("1c", "QuantumHydraSSM", 1, _Q, _C, "hydra", 32),
    ModelInfo("2a", "ClassicalQuantumAttention", 2, _C, _Q, "transformer", 16),
    ModelInfo("2d", "QuantumMambaHydraSSM", 2, _C, _S, "mamba", 32),
    ModelInfo("2e", "QuantumHydraHydraSSM", 2, _C, _S, "hydra", 32),
    ModelInfo("3a", "ClassicalTransformer", 3, _C, _C, "transformer", 1),
    ModelInfo("3b", "TrueClassicalMamba", 3, _C, _C, "mamba", 1),
    ModelInfo("3c", "TrueClassicalHydra", 3, _C, _C, "hydra", 1),
    ModelInfo("4a", "QuantumTransformerE2E", 4, _Q, _Q, "transformer", 16),
    ModelInfo("4d", "QuantumMambaE2E_Superposition", 4, _Q, _S, "mamba", 16),
    ModelInfo("4e", "QuantumHydraE2E_Superposition", 4, _Q, _S, "hydra", 16),
)


@dataclass(frozen=True)
class TaskInfo:
    """One of the tasks, with the published parameters that enter the identity of its datasets.

    `metric` is the primary test metric of a result, one of METRICS of its kind; `nominal_baseline` the constant the
    published files carry. A classification is one into two classes.

    `generator` is the version of the generator, `generators` the one for changed parameters by their name. `settings`
    are the parameters that a study may set, each with its JSON Schema. `channels`, `outputs` (of a regression) and
    `shortest` (the least length) are sizes; `misfit` says why a length and parameters do not go together, None if they
    do. `module` is the generator's file in `qablate.tasks`, by default named as the id; `short` heads a narrow column.

    Of published files: `selected_on_test` if their epoch was chosen on the test items, `num_markers` is what
    they hold under that name.
    """

    id: str
    title: str
    kind: TaskKind
    metric: str
    larger_is_better: bool
    generator: str
    nominal_baseline: float
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    channels: Size = 1
    outputs: Size = 1
    shortest: Size = 1
    misfit: Callable[[int, Mapping[str, Parameter]], str | None] = lambda length, parameters: None
    generators: Mapping[str, str] = field(default_factory=dict)
    module: str = ""
    short: str = ""
    selected_on_test: bool = False
    num_markers: Size = 8

    def __post_init__(self) -> None:
        _require(re.fullmatch(TASK_ID, self.id), f"task id '{self.id}' must be lower-case words joined by underscores")
        _require(self.kind in METRICS, f"task {self.id}: kind '{self.kind}' is not one of {', '.join(METRICS)}")
        known = METRICS[self.kind]
        _require(self.metric in known, f"task {self.id}: metric '{self.metric}' is not one of {', '.join(known)}")
        for key in self.settings:
            _require(key in self.parameters, f"task {self.id}: setting '{key}' is none of its parameters")
        for size in (self.channels, self.outputs, self.shortest, self.num_markers):
            _require(not isinstance(size, str) or size in self.parameters,
                     f"task {self.id}: size '{size}' is none of its parameters")

    def n_channels(self, parameters: Mapping[str, Parameter]) -> int:
        """Input channels."""
        return size_of(self.channels, parameters)

    def n_outputs(self, parameters: Mapping[str, Parameter]) -> int:
        """Width of the model's head: two logits, or the values of a regression."""
        return 2 if self.kind == "classification" else size_of(self.outputs, parameters)

    def too_short(self, length: int, parameters: Mapping[str, Parameter]) -> str | None:
        """Say what a sequence of this length is shorter than: `its 8 markers`, `1 step`; None if it is long enough."""
        least = size_of(self.shortest, parameters)
        if length >= least:
            return None
        if isinstance(self.shortest, str):
            return f"its {least} {self.shortest.removeprefix('n_')}"
        return f"{least} step{'s' if least > 1 else ''}"


def size_of(size: Size, parameters: Mapping[str, Parameter]) -> int:
    """Return a size for these task parameters."""
    return int(parameters[size]) if isinstance(size, str) else size if isinstance(size, int) else size(parameters)


def _forrelation_channels(parameters: Mapping[str, Parameter]) -> int:
    """Twice the address, in bits or one-hot, and the value; a one-hot address carries it, a sorted table has none."""
    if parameters["order"] == "sorted":
        return 2
    n_bits = int(parameters["n_bits"])
    return 2 << n_bits if parameters["encoding"] == "onehot" else 2 * (n_bits + 1)


def _forrelation_misfit(length: int, parameters: Mapping[str, Parameter]) -> str | None:
    """A sorted table is shown whole, and its steps have no addresses."""
    size, encoding = 1 << int(parameters["n_bits"]), parameters["encoding"]
    if parameters["order"] != "sorted":
        return None
    if encoding != "bits":
        return f"a sorted table has no addresses to encode, encoding '{encoding}' is no use"
    return None if length == size else f"a sorted table of {size} entries has length {size}, not {length}"


TASKS: Mapping[str, TaskInfo] = _by_token(
    TaskInfo(
        "forrelation", "Forrelation", "classification", "test_acc", True, "forrelation-g2", 0.5,
        {"encoding": "bits", "n_bits": 6, "order": "random", "reject_abs_phi": "0.15"},
        {"n_bits": {"description": "address bits of a table", "type": "integer", "minimum": 2, "maximum": 10},
         "encoding": {"description": "of an address", "enum": ["bits", "onehot"]},
         "order": {"description": "of the steps; sorted: whole tables", "enum": ["random", "sorted"]}},
        channels=_forrelation_channels,
        misfit=_forrelation_misfit,
        generators={"encoding": "forrelation-g3", "order": "forrelation-g3"},
        short="forr.",
        selected_on_test=True,
    ),
    TaskInfo(
        "adding_problem", "Adding Problem", "regression", "test_mse", False, "adding_problem-g1", 0.167,
        {"n_markers": 2, "placement": "extremes"},
        {"placement": {"description": "where the two markers lie", "enum": ["extremes", "halves", "uniform"]}},
        channels=2,
        shortest="n_markers",
        module="marked_values",
        short="adding",
    ),
    TaskInfo(
        "selective_copy", "Selective Copy", "regression", "test_r2", True, "selective_copy-g1", 0.083,
        {"n_markers": 8, "placement": "uniform"},
        {"n_markers": {"description": "marked steps and outputs", "type": "integer", "minimum": 1, "maximum": 64}},
        channels=2,
        outputs="n_markers",
        shortest="n_markers",
        module="marked_values",
        short="select.",
        num_markers="n_markers",
    ),
)


def model_info(model_id: str) -> ModelInfo:
    """Return the entry of one model, for a variant's token its base's; an unknown id is a QablateError."""
    return _known("model", MODELS, model_id)


def task_info(task_id: str) -> TaskInfo:
    """Return the entry of one task, for a variant's token its base's; an unknown id is a QablateError."""
    return _known("task", TASKS, task_id)


def _known(kind: str, entries: Mapping[str, _Entry], token: str) -> _Entry:
    try:
        return entries[token]
    except KeyError:
        raise QablateError(f"unknown {kind} '{token}': known are {', '.join(entries)}") from None
