"""A dataset: from its identity to its arrays and the hash over both; what the file of a task registers to make it.

Shapes: n items, l length, c channels, o outputs.
"""

import functools
import hashlib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qablate.catalog import task_info
from qablate.errors import QablateError
from qablate.study import DatasetSpec, published_sha256, split_sizes
from qablate.tasks.draws import WORD_LIMIT

Array = NDArray[Any]
Inputs = NDArray[np.float32]
Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class Arrays(NamedTuple):
    """What a generator returns: `sequences` (n, l, c) float32, `targets`, and `extras` that models never see."""

    sequences: Inputs
    targets: Array
    extras: dict[str, Array] = {}


@dataclass(frozen=True, eq=False)
class Dataset:
    """All items of one task, length and seed.

    `sequences` (n, l, c) float32; `targets` (n, o) float32 for regression, labels (n,) int64 for classification.
    `extras`: `marker_indices` (n, m) int64 for adding and selective copy; `phi_numerators` (n,) int64 and `tables`
    (n, 2, N) int8 for Forrelation. The hash is taken once, so the arrays are not to be changed.
    """

    spec: DatasetSpec
    sequences: Inputs
    targets: Array
    extras: dict[str, Array] = field(default_factory=dict)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the identity parameters and of the bytes of inputs and targets; extras follow from the identity."""
        digest = hashlib.sha256(f"qablate-dataset-1\n{self.spec.identity_json}\n".encode("ascii"))
        for name, array in (("sequences", self.sequences), ("targets", self.targets)):
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            shape = ",".join(map(str, little.shape))
            digest.update(f"{name}|<{little.dtype.kind}{little.dtype.itemsize}|{shape}\n".encode("ascii"))
            digest.update(little.data)
        return digest.hexdigest()

    @property
    def arrays(self) -> dict[str, Array]:
        """All arrays by the name they are stored under."""
        return {"sequences": self.sequences, "targets": self.targets, **self.extras}


@dataclass(frozen=True)
class Check:
    """A value of a dataset and the closed interval it must lie in; NaN is outside of every interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds."""
        return self.low <= self.value <= self.high

    @property
    def bound(self) -> str:
        """The bounds in words for a table: `= 0`, `<= 0.13`, `0.45 to 0.55`."""
        if self.low == self.high:
            return f"= {self.low:g}"
        if self.low == -math.inf:
            return f"<= {self.high:.4g}"
        return f">= {self.low:.4g}" if self.high == math.inf else f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Generator:
    """What the file of a task registers as GENERATOR; only `arrays` is required (docs/adding.md).

    `arrays` makes a dataset from its identity alone. `layout` names dtype and shape of the extras that are stored with
    it. `recode` turns inputs into what is stored of them, where that is something smaller (its shape is then in
    `layout`), or back (`stored` is False). `statistics` are numbers for the sidecar besides those of every task,
    `checks` leak checks besides those of every task (`qablate.tasks.checks`).
    """

    arrays: Callable[[DatasetSpec], Arrays]
    layout: Callable[[DatasetSpec], Layout] = lambda spec: {}
    recode: Callable[[DatasetSpec, Inputs, bool], Inputs] = lambda spec, inputs, stored: inputs
    statistics: Callable[[Dataset], dict[str, Any]] = lambda dataset: {}
    checks: tuple[Callable[[Dataset], Check | None], ...] = ()


def generator_of(task: str) -> Generator:
    """Return what the file of a task registers; a QablateError names a file that is missing or registers nothing."""
    name = f"qablate.tasks.{task_info(task).module or task}"
    try:
        return importlib.import_module(name).GENERATOR
    except (ModuleNotFoundError, AttributeError) as error:
        if error.name not in (name, "GENERATOR"):
            raise
        raise QablateError(f"task {task}: {name.replace('.', '/')}.py must hold a GENERATOR") from error


def layout_of(spec: DatasetSpec) -> Layout:
    """Return dtype and shape of every array in the file of a dataset, known from its identity alone."""
    labels = spec.info.kind == "classification"
    return {
        "sequences": (np.dtype("<f4"), (spec.n_items, spec.length, spec.n_channels)),
        "targets": (np.dtype("<i8"), (spec.n_items,)) if labels else (np.dtype("<f4"), (spec.n_items, spec.n_outputs)),
        **generator_of(spec.task).layout(spec),
    }


def generate(spec: DatasetSpec) -> Dataset:
    """Make a dataset from its identity alone, touching no global random state.

    One of the 33 published datasets must come out with its published hash; otherwise QablateError names both. Lengths,
    seeds or parameters that no generator here knows, and arrays other than the catalog says, are QablateErrors too.
    """
    _check_parameters(spec)
    try:
        dataset = Dataset(spec, *generator_of(spec.task).arrays(spec))
    except MemoryError as error:
        raise QablateError(f"{spec.task}: {spec.n_items} items do not fit the memory of this machine") from error
    _check_arrays(dataset)
    published = published_sha256().get(spec.identity_json)
    if published not in (None, dataset.sha256):
        raise QablateError(
            f"{spec.task} L={spec.length} seed={spec.seed}: generated data have hash {dataset.sha256}, published is "
            f"{published}; this numpy draws other numbers than the versions qablate was tested with"
        )
    return dataset


def _check_parameters(spec: DatasetSpec) -> None:
    settings, known = spec.info.settings, (*spec.info.settings, "n_train")
    for key, value in spec.changed:
        if key not in known:
            raise QablateError(f"{spec.task}: unknown parameter '{key}', known are {', '.join(known)}")
        allowed = settings.get(key, {})
        if "enum" in allowed and value not in allowed["enum"]:
            raise QablateError(f"{spec.task}: {key} '{value}' is not one of {', '.join(allowed['enum'])}")
        if "maximum" in allowed and not allowed["minimum"] <= int(value) <= allowed["maximum"]:
            raise QablateError(f"{spec.task}: {key} {value} is outside {allowed['minimum']}..{allowed['maximum']}")
    n_train, least = spec.split_sizes[0], split_sizes(spec.n_samples)[0]
    if n_train < least:
        raise QablateError(f"{spec.task}: n_train {n_train} is below the {least} training items of the split")
    if spec.n_samples < 1:
        raise QablateError(f"{spec.task}: n_samples {spec.n_samples} is below 1")
    if not 0 <= spec.seed < WORD_LIMIT:
        raise QablateError(f"{spec.task}: seed {spec.seed} is outside 0..{WORD_LIMIT - 1}")
    if longer := spec.info.too_short(spec.length, spec.parameters):
        raise QablateError(f"{spec.task}: length {spec.length} is shorter than {longer}")
    if reason := spec.info.misfit(spec.length, spec.parameters):
        raise QablateError(f"{spec.task}: {reason}")


def _check_arrays(dataset: Dataset) -> None:
    spec = dataset.spec
    wanted = {**layout_of(spec), "sequences": (np.dtype("<f4"), (spec.n_items, spec.length, spec.n_channels))}
    found = {name: (array.dtype.newbyteorder("<"), array.shape) for name, array in dataset.arrays.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            came, expected = ("{} {}".format(*facts[name]) if name in facts else "absent" for facts in (found, wanted))
            raise QablateError(f"{spec.task}: {name} came out as {came}, expected {expected}")
    if spec.info.kind == "classification" and not np.isin(dataset.targets, (0, 1)).all():
        raise QablateError(f"{spec.task}: labels other than 0 and 1 came out")
