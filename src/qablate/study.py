"""What a study consists of: its cells, their settings and files.

Layer 0 and quick to import: the Snakemake files use this module and nothing heavier.
"""

import functools
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qablate.catalog import Parameter, TaskInfo, model_info, task_info
from qablate.config import Config, load_config
from qablate.errors import QablateError
from qablate.files import read_regular
from qablate.goldens import DatasetFacts, published_datasets
from qablate.records import canonical_json, sha256_of_json
from qablate.variants import described, model_changes, recipe_of, task_parameters

PUBLISHED_SAMPLES = 5000
MAX_SIDECAR_BYTES = 100_000


@dataclass(frozen=True, order=True)
class Cell:
    """One model on one task at one length with one seed: one job, one JSON. Variants go by their tokens."""

    model: str
    task: str
    length: int
    seed: int

    @property
    def name(self) -> str:
        """`1b_adding_problem_L100_seed2024`: the stem of every file of this cell."""
        return f"{self.model}_{self.task}_L{self.length}_seed{self.seed}"

    @property
    def result_name(self) -> str:
        """Name of the result file, the one the users' scripts look for."""
        return f"synthetic_{self.name}_results.json"

    @property
    def identity(self) -> dict[str, Any]:
        """What a result file says of its cell, in the published keys and order."""
        model = model_info(self.model)
        info = {"name": model.name, "group": model.group, "feat": model.features, "mix": model.mixing,
                "type": model.architecture}
        return {"model_id": self.model, "model_name": model.name, "model_info": info, "task": self.task,
                "task_type": task_info(self.task).kind, "seq_len": self.length, "seed": self.seed}


@dataclass(frozen=True)
class DatasetSpec:
    """What fixes the bytes of a dataset: task, length, seed, number of items and the generator's parameters."""

    task: str
    length: int
    seed: int
    n_samples: int = PUBLISHED_SAMPLES
    changed: tuple[tuple[str, Parameter], ...] = ()

    @property
    def info(self) -> TaskInfo:
        """The task's catalog entry."""
        return task_info(self.task)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Generator parameters: the published ones with this dataset's changes over them."""
        return {**self.info.parameters, **dict(self.changed)}

    @property
    def generator(self) -> str:
        """Version of the generator: the task's, or that of the first changed parameter that has one of its own."""
        changed = (version for key, version in self.info.generators.items()
                   if self.parameters.get(key) != self.info.parameters.get(key))
        return next(changed, self.info.generator)

    @property
    def n_channels(self) -> int:
        """Input channels."""
        return self.info.n_channels(self.parameters)

    @property
    def n_outputs(self) -> int:
        """Width of a model's output."""
        return self.info.n_outputs(self.parameters)

    @property
    def identity(self) -> dict[str, Parameter]:
        """Everything that decides the bytes, as stored in result files and hashed into `dataset_sha256`."""
        return {**self.parameters, "generator": self.generator, "n_samples": self.n_samples, "seed": self.seed,
                "seq_len": self.length, "task": self.task}

    @property
    def identity_json(self) -> str:
        """`identity` as canonical JSON: keys sorted, no spaces, ASCII."""
        return canonical_json(self.identity)

    @property
    def variant(self) -> str:
        """`published`, or the changed values and 8 hex digits of the hash of all parameters but seed and length."""
        if self.n_samples == PUBLISHED_SAMPLES and self.parameters == dict(self.info.parameters):
            return "published"
        digest = sha256_of_json({key: value for key, value in self.identity.items() if key not in ("seed", "seq_len")})
        changes = [f"{key}{value}" for key, value in sorted(self.parameters.items())
                   if value != self.info.parameters.get(key)]
        slug = "-".join([f"n{self.n_samples}", *changes]).replace("_", "").replace(".", "p")
        return f"{slug}-{digest[:8]}"

    @property
    def split_sizes(self) -> tuple[int, int, int]:
        """Items for training, validation and test; the parameter `n_train` sets the first and leaves the others."""
        train, validation, test = split_sizes(self.n_samples)
        return int(self.parameters.get("n_train", train)), validation, test

    @property
    def n_items(self) -> int:
        """All items: `n_samples`, and behind them the training items that `n_train` adds."""
        return sum(self.split_sizes)

    @property
    def split_id(self) -> str:
        """`perm-4000-500-500`: a seeded permutation cut at these sizes."""
        return "-".join(["perm", *map(str, self.split_sizes)])

    def path(self, results: Path) -> Path:
        """File of this dataset below a results folder."""
        folder = results / "datasets" / self.task / self.generator / self.variant
        return folder / f"L{self.length}_seed{self.seed}.npz"


class Study:
    """A set of cells and the settings they are run with.

    Built from checked settings (`qablate.config`); every path is relative to the working folder.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name: str = config["name"]
        self.results = Path(config["results"])
        self.system: str = config["system"]
        self.recipe: str = config["training"]["recipe"]

    @classmethod
    def load(cls, paths: Iterable[Path | str], overrides: Mapping[str, Any] | None = None) -> "Study":
        """Read a study from config files laid over each other; a QablateError if its results cannot be a folder."""
        study = cls(load_config(paths, overrides))
        for path in (study.results, *study.results.parents):
            if os.path.exists(path) and not os.path.isdir(path):
                raise QablateError(f"results: {study.results}: {path} is no folder")
        return study

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, by task, length, model, seed."""
        return tuple(
            Cell(model, task, length, seed)
            for task, settings in self.config["tasks"].items()
            for length in settings["lengths"]
            for model in self.config["models"]
            for seed in self.config["seeds"]
        )

    @functools.cached_property
    def datasets(self) -> tuple[DatasetSpec, ...]:
        """All datasets that the cells need, each once."""
        return tuple(dict.fromkeys(self.dataset(cell.task, cell.length, cell.seed) for cell in self.cells))

    @functools.cached_property
    def cell_set(self) -> frozenset[Cell]:
        """All cells, to look one up."""
        return frozenset(self.cells)

    def cell(self, model: str, task: str, length: int, seed: int) -> Cell:
        """Return one cell of this study; a QablateError names what the study does not hold, and what it does."""
        model_info(model)    # an unknown one is answered with the known ones
        self.require_dataset(task, length, seed)
        self._require("model", model, self.config["models"])
        return Cell(model, task, length, seed)

    def require_dataset(self, task: str, length: int, seed: int) -> DatasetSpec:
        """Return a dataset of this study; a QablateError names the tasks, lengths or seeds that it has."""
        task_info(task)
        self._require("task", task, self.config["tasks"])
        self._require(f"{task}: length", length, self.config["tasks"][task]["lengths"])
        self._require("seed", seed, self.config["seeds"])
        return self.dataset(task, length, seed)

    def _require(self, name: str, value: object, known: Collection[object]) -> None:
        if value not in known:
            raise QablateError(f"{name} {value}: study '{self.name}' has {', '.join(map(str, known))}")

    def dataset(self, task: str, length: int, seed: int) -> DatasetSpec:
        """Return the dataset of one task of this study, of any length and seed."""
        published = task_info(task).parameters
        self._require("task", task, self.config["tasks"])
        changed = tuple(sorted((key, value) for key, value in task_parameters(self.config, task).items()
                               if value != published.get(key)))
        return DatasetSpec(task_info(task).id, length, seed, self.config["data"]["n_samples"], changed)

    def model_settings(self, model: str, length: int) -> dict[str, Any]:
        """Return the study's `model` settings with what the tags of a variant change; those of a base lack `chunk`."""
        return {**self.config["model"], **model_changes(self.config, model, "model", length)}

    def chunk(self, model: str, length: int) -> int:
        """Return the steps that one circuit or pooled token of a model covers; 1 where it reads single steps."""
        return int(self.model_settings(model, length).get("chunk", model_info(model).chunk))

    def training_settings(self, model: str) -> dict[str, Any]:
        """Return the study's `training` settings with what the tags of a variant change, under a recipe of its own."""
        changed = model_changes(self.config, model, "training")
        return {**self.config["training"], **changed, "recipe": recipe_of(self.config, model)}

    def n_items(self, task: str) -> int:
        """Return the items of each dataset of a task."""
        return self.dataset(task, self.config["tasks"][task]["lengths"][0], self.config["seeds"][0]).n_items

    def variants_of(self, cell: Cell) -> dict[str, dict[str, Any] | None]:
        """Return what a record says of a cell's variants: base, tags and settings, None for a base."""
        return {"model_variant": described(self.config, cell.model, "models", cell.length),
                "task_variant": described(self.config, cell.task, "tasks", cell.length)}

    def cell_key(self, cell: Cell) -> str:
        """Identity of a cell across systems: `published/published/1b/adding_problem/L100/seed2024`."""
        return f"published/{recipe_of(self.config, cell.model)}/{cell.model}/{cell.task}/L{cell.length}/seed{cell.seed}"

    @property
    def result_folder(self) -> Path:
        """Folder of the result files; nothing but finished cells may be there as `*.json`."""
        return self.results / "synthetic_benchmarks"

    def result_path(self, cell: Cell) -> Path:
        """Result file of one cell."""
        return self.result_folder / cell.result_name

    @property
    def superseded(self) -> Path:
        """Folder of what was a cell's result file and is no more; `qablate.files.keep_copy` and `supersede` fill it."""
        return self.results / "superseded"

    def dataset_path(self, cell: Cell) -> Path:
        """Dataset file of one cell."""
        return self.dataset(cell.task, cell.length, cell.seed).path(self.results)

    def settings_of(self, cell: Cell) -> dict[str, Any]:
        """Every setting that changes the numbers of this cell, flat; what decides whether a result is valid."""
        model, training = self.model_settings(cell.model, cell.length), self.training_settings(cell.model)
        spec = self.dataset(cell.task, cell.length, cell.seed)
        return {
            **{f"model.{key}": model[key] for key in sorted(model)},
            **{f"training.{key}": training[key] for key in sorted(training)},
            "data.generator": spec.generator,
            "data.n_samples": spec.n_samples,
            "data.variant": spec.variant,
            "split_id": spec.split_id,
            "model_code_version": model_info(cell.model).code_version,
        }

    def settings_sha256(self, cell: Cell) -> str:
        """Hash of `settings_of`, kept in checkpoints and provenance."""
        return sha256_of_json(self.settings_of(cell))

    def system_rank(self, system: str) -> tuple[int, str]:
        """Sort key of systems: the declared order (`import.source_order`), others after it by name."""
        order = self.config["import"]["source_order"]
        return (order.index(system) if system in order else len(order), system)

    def assigned_to(self, cell: Cell) -> str | None:
        """Return the only system that is to train a cell, or None if any may; the last override that fits decides."""
        assign = self.config["assign"]
        system = assign.get(task_info(cell.task).id)
        for rule in assign.get("overrides", []):
            if all(value in rule.get(f"{key}s", [value]) for key, value in vars(cell).items()):
                system = rule["system"]
        return system


def split_sizes(n_samples: int) -> tuple[int, int, int]:
    """Return the items for training, validation and test: floor(.8 n), floor(.1 n) and the rest."""
    train, validation = n_samples * 8 // 10, n_samples // 10     # integers: .8 n in floats rounds down too far
    return train, validation, n_samples - train - validation


def selected_on_test(record: Mapping[str, Any]) -> bool:
    """Whether the epoch of a record was chosen on its test items: all published Forrelation files."""
    return record["schema_version"] == 1 and task_info(record["task"]).selected_on_test


@functools.cache
def published_sha256() -> Mapping[str, str]:
    """Map the identity JSON of each of the 33 published datasets to its `dataset_sha256`."""
    return {identity: facts.sha256 for identity, facts in published_datasets().items()}


def known_dataset(spec: DatasetSpec, results: Path) -> DatasetFacts | None:
    """Return what is known of a dataset: of the published table, else of the sidecar next to a made one, else None."""
    return published_datasets().get(spec.identity_json) or _facts_of(spec.path(results).with_suffix(".json"))


@functools.cache
def _facts_of(sidecar: Path) -> DatasetFacts | None:
    """What a sidecar tells; None for one that is missing or damaged."""
    try:
        content = json.loads(read_regular(sidecar, MAX_SIDECAR_BYTES))
        variance = content.get("statistics", {}).get("test_target_var")
        facts = DatasetFacts(content["dataset_sha256"], content.get("split_sha256"), variance)
        sound = isinstance(facts.sha256, str) and isinstance(facts.split_sha256, str | None)
        return facts if sound and isinstance(variance, float | None) and (variance is None or variance > 0) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
