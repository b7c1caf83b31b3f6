"""Forrelation (`forrelation-g2`, `-g3`): are two truth tables correlated through the Walsh-Hadamard transform?

Phi(f, g) = N**-1.5 * sum over x, y of f(x) (-1)**popcount(x AND y) g(y) for tables f, g: {0..N-1} -> {-1, +1}.
Class 1 draws f and g as the signs of a Gaussian vector and of its transform (Phi about 0.64); class 0 draws them
independently and keeps pairs with |Phi| below a cut. A sequence shows random entries of both tables: per step the bits
of an address x (least significant first), f(x), the bits of an independent address y, g(y).
Version 3 shows the same entries otherwise: `onehot` as N channels a table, f(x) at channel x and 0 elsewhere; `sorted`
as the whole tables in order, step t shows f(t), g(t).
Sources: the published study; Aaronson and Ambainis 2015 for the problem.
Shapes: n items, l length, N = 2**n_bits entries a table.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qablate.study import DatasetSpec
from qablate.tasks.dataset import Arrays, Dataset, Generator, Layout

MAX_TRIES = 100


def forrelation(spec: DatasetSpec) -> Arrays:
    """Draw all items; labels are (n,) int64, 1 at even items.

    Channels: 2 * (n_bits + 1) for the encoding `bits`, 2 N for `onehot`, 2 for `sorted` tables; encoding and order
    change no draw. Extras: `phi_numerators` (n,) int64, Phi times N**1.5, an exact integer; `tables` (n, 2, N) int8, f
    then g. Of sorted tables the length is N and the encoding `bits`, which then has no effect.
    """
    n_bits, encoding = int(spec.parameters["n_bits"]), str(spec.parameters["encoding"])
    size, in_order = 1 << n_bits, spec.parameters["order"] == "sorted"
    labels = (np.arange(spec.n_items) % 2 == 0).astype(np.int64)
    gaussian, addresses = _draw(labels, spec.length, spec.seed, size, float(spec.parameters["reject_abs_phi"]))
    correlated = labels == 1
    gaussian[correlated, 1] = walsh_hadamard(gaussian[correlated, 0])     # its scale does not touch the signs
    tables = signs(gaussian)     # (n, 2, N)
    extras: dict[str, NDArray[Any]] = {"phi_numerators": phi_numerators(tables), "tables": tables}
    if in_order:
        return Arrays(tables.transpose(0, 2, 1).astype(np.float32, order="C"), labels, extras)
    values = np.take_along_axis(tables, addresses.transpose(0, 2, 1), axis=2).transpose(0, 2, 1)     # (n, l, 2)
    return Arrays(encode_steps(addresses, values, n_bits, encoding), labels, extras)


def _draw(
    labels: NDArray[np.int64], length: int, seed: int, size: int, reject_abs_phi: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Take all draws from one generator, item by item: how many an item needs depends on what it drew before.

    Returns the vectors (n, 2, N) whose signs are the tables, the second one of class 1 not yet filled in, and the
    addresses (n, l, 2), x and y of every step.
    """
    generator = np.random.default_rng(seed)
    gaussian = np.zeros((len(labels), 2, size))
    addresses = np.empty((len(labels), length, 2), dtype=np.int64)
    for item, label in enumerate(labels):
        if label == 1:
            gaussian[item, 0] = generator.standard_normal(size)
        else:
            gaussian[item] = _uncorrelated(generator, size, reject_abs_phi)
        addresses[item] = generator.integers(0, size, size=(length, 2))
    return gaussian, addresses


def _uncorrelated(generator: np.random.Generator, size: int, reject_abs_phi: float) -> NDArray[np.float64]:
    """Draw pairs of vectors until |Phi| of their signs is below the cut; after 100 tries the last pair is kept."""
    for _ in range(MAX_TRIES):
        pair = generator.standard_normal((2, size))
        if abs(int(phi_numerators(signs(pair)))) < reject_abs_phi * size**1.5:
            break
    return pair


def signs(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return -1 or +1 for each value; zero counts as +1."""
    return np.where(values >= 0, 1, -1).astype(np.int8)


def walsh_hadamard(values: NDArray[Any]) -> NDArray[Any]:
    """Transform the last axis (a power of two long), without the factor 1/sqrt(N).

    Butterflies (a, b) -> (a + b, a - b) with strides 1, 2, 4, ...; their order fixes the rounding of float64 input.
    """
    size = values.shape[-1]
    stride = 1
    while stride < size:
        pairs = values.reshape(*values.shape[:-1], size // (2 * stride), 2, stride)
        upper, lower = pairs[..., 0, :], pairs[..., 1, :]
        values = np.stack([upper + lower, upper - lower], axis=-2).reshape(values.shape)
        stride *= 2
    return values


def phi_numerators(tables: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return N**1.5 * Phi of tables (..., 2, N) as exact integers (...)."""
    wide = tables.astype(np.int64)
    return (walsh_hadamard(wide[..., 0, :]) * wide[..., 1, :]).sum(axis=-1)


def phi(tables: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return Phi of tables (..., 2, N), between -1 and 1."""
    return phi_numerators(tables) / tables.shape[-1] ** 1.5


def encode_steps(
    addresses: NDArray[np.int64], values: NDArray[np.int8], n_bits: int, encoding: str = "bits"
) -> NDArray[np.float32]:
    """Write addresses and the table entries they point to, both (n, l, 2), as the channels of an encoding."""
    n, length, _ = addresses.shape
    if encoding == "onehot":
        wide = np.zeros((n, length, 2, 1 << n_bits), dtype=np.float32)
        np.put_along_axis(wide, addresses[..., None], values[..., None].astype(np.float32), axis=3)
        return wide.reshape(n, length, -1)
    channels = np.empty((n, length, 2, n_bits + 1), dtype=np.float32)
    for bit in range(n_bits):
        channels[..., bit] = addresses >> bit & 1
    channels[..., n_bits] = values
    return channels.reshape(n, length, 2 * (n_bits + 1))


def decode_steps(sequences: NDArray[np.float32], n_bits: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Read addresses and table values, both (n, l, 2), x and f(x) first, from inputs (n, l, channels).

    The number of channels tells the encoding.
    """
    n, length, n_channels = sequences.shape
    if n_channels == 2:     # sorted
        addresses = np.broadcast_to(np.arange(length)[:, None], (n, length, 2))
        return addresses, sequences.astype(np.int8)
    steps = sequences.reshape(n, length, 2, -1)
    if n_channels == 2 << n_bits:     # one-hot
        return np.abs(steps).argmax(axis=3), steps.sum(axis=3).astype(np.int8)
    addresses = (steps[..., :n_bits].astype(np.int64) << np.arange(n_bits)).sum(axis=-1)
    return addresses, steps[..., n_bits].astype(np.int8)


def _layout(spec: DatasetSpec) -> Layout:
    """One-hot inputs are stored as bits."""
    n = spec.n_items
    channels = spec.info.n_channels({**spec.parameters, "encoding": "bits"})
    return {
        "sequences": (np.dtype("<f4"), (n, spec.length, channels)),
        "phi_numerators": (np.dtype("<i8"), (n,)),
        "tables": (np.dtype("i1"), (n, 2, 1 << int(spec.parameters["n_bits"]))),
    }


def _recode(spec: DatasetSpec, inputs: NDArray[np.float32], stored: bool) -> NDArray[np.float32]:
    """Numbers that are no Forrelation steps, as in a damaged file, give other numbers, which the hash then tells."""
    if spec.parameters["encoding"] != "onehot":
        return inputs
    n_bits = int(spec.parameters["n_bits"])
    with np.errstate(invalid="ignore"):
        addresses, values = decode_steps(inputs, n_bits)
    return encode_steps(addresses & ((1 << n_bits) - 1), values, n_bits, "bits" if stored else "onehot")


def _statistics(dataset: Dataset) -> dict[str, Any]:
    labels, values = dataset.targets, phi(dataset.extras["tables"])
    return {"phi1_mean": float(values[labels == 1].mean()), "phi0_abs_mean": float(np.abs(values[labels == 0]).mean())}


GENERATOR = Generator(forrelation, _layout, _recode, _statistics)
