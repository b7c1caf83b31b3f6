"""Weights, inputs and expected results of the published implementation, rebuilt from integers.

Every number of a weight or an input comes from a 32-bit hash of its index and of a stream, so that any
implementation can rebuild it; `tests/data/parity_goldens.json` holds what the published code made of them. `ORDER`
says where the tensors of the published enumeration are in the models built here.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch

GOLDENS = Path(__file__).parents[1] / "data" / "parity_goldens.json"
MASK = np.uint64(0xFFFFFFFF)


def hashed(count, stream):
    """Numbers in [-0.5, 0.5), float64: a function of index (from 1) and stream alone."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    h = (index * np.uint64(2654435761) + np.uint64(stream * 2246822519 % 2**32)) & MASK
    h ^= h >> np.uint64(16)
    h = h * np.uint64(2246822507) & MASK
    h ^= h >> np.uint64(13)
    h = h * np.uint64(3266489909) & MASK
    h ^= h >> np.uint64(16)
    return h / 2.0**32 - 0.5


@cache
def golden_cases():
    """Model id -> its cases."""
    return json.loads(GOLDENS.read_text())["models"]


PUBLISHED = tuple(golden_cases())
"""The twelve models that the published implementation says what they give; others have no such numbers."""


def golden_weights(case):
    """Tensors of a case in published order; None where the model's own frozen table stays."""
    weights = []
    for position, entry in enumerate(case["tensors"]):
        if entry.get("frozen"):
            weights.append(None)
            continue
        count = int(np.prod(entry["shape"])) * (2 if entry["complex"] else 1)
        values = entry["offset"] + entry["scale"] * np.sqrt(12) * hashed(count, position + 1)
        tensor = torch.from_numpy(values.astype(np.float32))
        if entry["complex"]:
            tensor = torch.view_as_complex(tensor.view(-1, 2))
        weights.append(tensor.reshape(entry["shape"]))
    return weights


def golden_inputs(case):
    """Inputs (batch, channels, length), float32."""
    batch, channels, length = case["batch"], case["channels"], case["length"]
    if channels == 2:
        x = np.zeros((batch, 2, length))
        x[:, 0] = hashed(batch * length, 1000).reshape(batch, length) + 0.5
        for b in range(batch):
            x[b, 1, [(7 + 11 * k + 3 * b) % length for k in range(8)]] = 1
    else:
        u = hashed(batch * channels * length, 1000).reshape(batch, channels, length)
        x = (u > 0).astype(float)
        x[:, [6, 13]] = np.sign(u[:, [6, 13]])
    return torch.from_numpy(x.astype(np.float32))


def _in_blocks(prefix, names):
    return [f"{prefix}.{name}" for name in names.split()]


def _twice(names):
    return [*_in_blocks("mixer.0", names), *_in_blocks("mixer.1", names)]


CHAIN = ["tokens", "encoder", "mixer", "norm", "pool", "head"]
ORDER = {
    "1a": ["mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"],
    "3a": ["mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"],
    "1c": [
        *_in_blocks("encoder", "alpha beta gamma"), "tokens", *_in_blocks("encoder", "ahead back diagonal"),
        *_twice("input forward_weight backward_weight diagonal_weight forward_core backward_core diagonal combination "
                "unused_inner_norm output unused_norm"),
        "norm", "head",
    ],
    "2a": ["tokens", *_in_blocks("encoder", "pool coefficients final_angles to_angles output"), "norm", "head"],
    "3b": ["tokens", "encoder", *_twice("input core.selection convolution core.A_log core.skip core.step output norm"),
           "norm", "head"],
    "3c": ["tokens", "encoder", *_twice("input convolution A_log skip step output inner_norm"), "mixer.0.outer_norm",
           "mixer.1.outer_norm", "norm", "head"],
}
"""Parameters, or modules with all of theirs in the order of registration; the others are in the order of the chain."""


def published_tensors(model):
    """Parameters in published order, one per published tensor."""
    return [parameter for entry in ORDER.get(model.model_id, CHAIN) for name, parameter in model.named_parameters()
            if name == entry or name.startswith(f"{entry}.")]
