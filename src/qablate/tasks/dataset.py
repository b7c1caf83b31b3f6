"""A dataset: its identity, its arrays and the hash over both; and what the file of a task registers to make it.

Shapes: n items, l length, c channels, o outputs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qablate.catalog import task_info
from qablate.errors import QablateError
from qablate.study import DatasetSpec

if TYPE_CHECKING:
    from qablate.tasks.checks import Check

HASH_SCHEME = "qablate-dataset-1"
Array = NDArray[Any]
Inputs = NDArray[np.float32]
Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class Arrays(NamedTuple):
    """What a generator returns: `sequences` (n, l, c) float32, `targets`, and `extras` that models never see."""

    sequences: NDArray[np.float32]
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
    sequences: NDArray[np.float32]
    targets: Array
    extras: dict[str, Array] = field(default_factory=dict)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the identity parameters and of the bytes of inputs and targets; extras follow from the identity."""
        digest = hashlib.sha256(f"{HASH_SCHEME}\n{self.spec.identity_json}\n".encode("ascii"))
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
        if getattr(error, "name", None) not in (name, "GENERATOR"):
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
