"""The items of a cell on its device, cut into training, validation and test.

Shapes: n items, c channels, l length, o outputs.
"""

from dataclasses import dataclass

import numpy as np
import torch

from qablate.tasks import Dataset, Split


@dataclass(frozen=True)
class Items:
    """One part of the split: inputs (n, c, l) float32; targets (n, o) float32 or labels (n,) int64."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class CellData:
    """Training, validation and test items; the test items are read once, after training."""

    train: Items
    validation: Items
    test: Items
    split: Split


def cut(dataset: Dataset, split: Split, device: torch.device) -> CellData:
    """Put a dataset on a device, channels before time as the models take it."""

    def items(indices: np.ndarray) -> Items:
        inputs = np.ascontiguousarray(dataset.sequences[indices].transpose(0, 2, 1))  # (n, c, l)
        return Items(torch.from_numpy(inputs).to(device), torch.from_numpy(dataset.targets[indices]).to(device))

    return CellData(items(split.train), items(split.val), items(split.test), split)
