"""A dataset: its identity, its arrays and the hash over both.

Shapes: n items, l length, c channels, o outputs.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qablate.study import DatasetSpec

HASH_SCHEME = "qablate-dataset-1"
Array = NDArray[Any]
Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class Arrays(NamedTuple):
    """What a generator returns: `sequences` (n, l, c) float32, `targets`, and `extras` that models never see."""

    sequences: NDArray[np.float32]
    targets: Array
    extras: dict[str, Array]


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


def layout_of(spec: DatasetSpec) -> Layout:
    """Return dtype and shape of every array in the file of a dataset, known from its identity alone.

    One-hot inputs are stored as bits.
    """
    n, info = spec.n_items, spec.info
    stored = info.n_channels({**spec.parameters, "encoding": "bits"})
    layout: Layout = {"sequences": (np.dtype("<f4"), (n, spec.length, stored))}
    if info.id == "forrelation":
        size = 1 << int(spec.parameters["n_bits"])
        layout["targets"] = (np.dtype("<i8"), (n,))
        layout["phi_numerators"] = (np.dtype("<i8"), (n,))
        layout["tables"] = (np.dtype("i1"), (n, 2, size))
    else:
        layout["targets"] = (np.dtype("<f4"), (n, spec.n_outputs))
        layout["marker_indices"] = (np.dtype("<i8"), (n, int(spec.parameters["n_markers"])))
    return layout
