"""Random streams of a cell: each a function of its name, the seed and the cell, so that no run depends on another.

`seed(name) = first 8 bytes of sha256("qablate-rng-1/{name}/{train_seed}/{rest}")`, little-endian, 63 bits. Data and
split have their own generators (qablate.tasks); `init` draws the weights, `shuffle` the batch order and `dropout` the
masks of one epoch, `bootstrap` the intervals. Nothing else enters: no system, no path, no code version.
"""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Streams:
    """The seeds of one cell. `cell` is the cell key without its seed: `published/published/1b/adding_problem/L100`."""

    train_seed: int
    cell: str

    def seed(self, name: str, epoch: int | None = None) -> int:
        """Return the 63-bit seed of a stream; `shuffle` and `dropout` have one for each epoch."""
        rest = self.cell if epoch is None else f"{self.cell}/{epoch}"
        digest = hashlib.sha256(f"qablate-rng-1/{name}/{self.train_seed}/{rest}".encode("ascii")).digest()
        return int.from_bytes(digest[:8], "little") & (2**63 - 1)

    def batch_order(self, n_items: int, epoch: int) -> torch.Tensor:
        """Return the order of the training items in one epoch (n_items,), from a generator of its own."""
        generator = torch.Generator().manual_seed(self.seed("shuffle", epoch))
        return torch.randperm(n_items, generator=generator)


def seed_everything(seed: int) -> None:
    """Reseed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_states() -> dict[str, torch.Tensor]:
    """Return the states of torch's global generators; models and dropout draw from no other."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, torch.Tensor]) -> None:
    """Put back what `generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
