"""The models and tasks of the study as data: names, factors, shapes, versions.

Layer 0: imports neither torch nor pandas, so that a dry run of thousands of cells takes seconds. How a model is built
stands in `qablate.models`, how a dataset is made in `qablate.tasks`; what both and the workflow agree on stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast

from qablate.errors import QablateError

TaskKind = Literal["classification", "regression"]
Parameter = int | str
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class ModelInfo:
    """One of the 12 models.

    `features` and `mixing` use the words of the published result files (`classical`, `quantum`,
    `quantum_superposition`). `chunk` is the number of steps that one circuit or pooled token covers; 1 where a model
    reads single steps. `code_version` is raised by hand when the numbers of a model change; results of an older
    version then no longer stand.
    """

    id: str
    name: str
    group: int
    features: str
    mixing: str
    architecture: Literal["transformer", "mamba", "hydra"]
    chunk: int
    code_version: int = 1

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
        if setting in ("circuit", "train_angles") and not (self.quantum_features or self.quantum_mixing):
            return f"{self.id} has no circuit"
        if setting == "hand_over" and not (self.quantum_features and self.mixing == "quantum_superposition"):
            return f"in {self.id} no circuit hands a state to another"
        if setting == "d_state" and (self.architecture == "transformer" or self.quantum_mixing):
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


_LETTER = {"classical": "C", "quantum": "Q", "quantum_superposition": "Q(S)"}
_Q, _C, _S = "quantum", "classical", "quantum_superposition"

MODELS: Mapping[str, ModelInfo] = MappingProxyType(
    _ByToken({
        info.id: info
        for info in (
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
    })
)


@dataclass(frozen=True)
class TaskInfo:
    """One of the three tasks, with the published parameters that enter the identity of its datasets.

    `metric` is the primary test metric of a result; `nominal_baseline` the constant the published files carry.
    """

    id: str
    title: str
    kind: TaskKind
    metric: str
    larger_is_better: bool
    generator: str
    nominal_baseline: float
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def n_channels(self, parameters: Mapping[str, Parameter]) -> int:
        """Input channels: value and marker; for Forrelation twice the address, in bits or one-hot, and the value.

        A one-hot address carries the value; in a sorted table the step is the address.
        """
        if self.id != "forrelation" or parameters["order"] == "sorted":
            return 2
        n_bits = int(parameters["n_bits"])
        return 2 << n_bits if parameters["encoding"] == "onehot" else 2 * (n_bits + 1)

    def generator_of(self, parameters: Mapping[str, Parameter]) -> str:
        """Version of the generator; encodings of Forrelation other than the published one have their own."""
        encoded = any(parameters.get(key) != self.parameters.get(key) for key in ("encoding", "order"))
        return "forrelation-g3" if encoded else self.generator

    def n_outputs(self, parameters: Mapping[str, Parameter]) -> int:
        """Width of the model's head: two logits, one sum, or one value per marker."""
        if self.id == "forrelation":
            return 2
        return int(parameters["n_markers"]) if self.id == "selective_copy" else 1

    def shortest_length(self, parameters: Mapping[str, Parameter]) -> int:
        """Smallest length at which the generator is defined."""
        return 1 if self.id == "forrelation" else int(parameters["n_markers"])


TASKS: Mapping[str, TaskInfo] = MappingProxyType(
    _ByToken({
        info.id: info
        for info in (
            TaskInfo(
                "forrelation",
                "Forrelation",
                "classification",
                "test_acc",
                True,
                "forrelation-g2",
                0.5,
                {"encoding": "bits", "n_bits": 6, "order": "random", "reject_abs_phi": "0.15"},
            ),
            TaskInfo(
                "adding_problem",
                "Adding Problem",
                "regression",
                "test_mse",
                False,
                "adding_problem-g1",
                0.167,
                {"n_markers": 2, "placement": "extremes"},
            ),
            TaskInfo(
                "selective_copy",
                "Selective Copy",
                "regression",
                "test_r2",
                True,
                "selective_copy-g1",
                0.083,
                {"n_markers": 8, "placement": "uniform"},
            ),
        )
    })
)


def model_info(model_id: str) -> ModelInfo:
    """Return the entry of one model, for a variant's token its base's; an unknown id is a QablateError."""
    try:
        return MODELS[model_id]
    except KeyError:
        raise QablateError(f"unknown model '{model_id}': known are {', '.join(MODELS)}") from None


def task_info(task_id: str) -> TaskInfo:
    """Return the entry of one task, for a variant's token its base's; an unknown id is a QablateError."""
    try:
        return TASKS[task_id]
    except KeyError:
        raise QablateError(f"unknown task '{task_id}': known are {', '.join(TASKS)}") from None
