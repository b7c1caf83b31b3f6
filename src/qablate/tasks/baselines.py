"""What a model must beat, and the numbers that describe a dataset.

The nominal baseline is the constant the published files carry; the measured one belongs to one dataset and its test
split: the majority rate, or the error of predicting the training mean.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qablate.tasks.dataset import Array, Dataset, generator_of
from qablate.tasks.splits import Split, split_of

Statistics = dict[str, Any]


def mean_predictor_mse(train_targets: Array, targets: Array) -> float:
    """MSE on `targets` (n, o) of one number for all outputs, the mean of `train_targets` (m, o)."""
    errors = targets.astype(np.float64) - train_targets.mean(dtype=np.float64)
    return float(np.mean(errors**2))


def majority_rate(labels: NDArray[np.int64]) -> float:
    """Accuracy of the better one of the two constant predictions on `labels` (n,)."""
    positive = float(np.mean(labels == 1))
    return max(positive, 1 - positive)


def measured_baseline(dataset: Dataset, split: Split) -> float:
    """Majority rate of the test split, or the test MSE of the training mean."""
    test = dataset.targets[split.test]
    if dataset.spec.info.kind == "classification":
        return majority_rate(test)
    return mean_predictor_mse(dataset.targets[split.train], test)


def dataset_statistics(dataset: Dataset) -> Statistics:
    """Return the numbers kept next to a dataset: baselines, label counts or moments of targets, its task's own."""
    split = split_of(dataset.spec)
    common = {
        "nominal_baseline": dataset.spec.info.nominal_baseline,
        "measured_baseline": measured_baseline(dataset, split),
    }
    of_kind = _label_statistics if dataset.spec.info.kind == "classification" else _target_statistics
    return {**common, **of_kind(dataset, split), **generator_of(dataset.spec.task).statistics(dataset)}


def _label_statistics(dataset: Dataset, split: Split) -> Statistics:
    labels = dataset.targets
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {
        **{f"{name}_positives": int(labels[part].sum()) for name, part in parts.items()},
        "val_majority_rate": majority_rate(labels[split.val]),
        "test_majority_rate": majority_rate(labels[split.test]),
    }


def _target_statistics(dataset: Dataset, split: Split) -> Statistics:
    targets = dataset.targets.astype(np.float64)
    return {
        "target_mean": float(targets.mean()),
        "target_std": float(targets.std()),
        "val_target_var": float(targets[split.val].var()),     # around one grand mean, as in the published R2
        "test_target_var": float(targets[split.test].var()),
        "test_mse_of_train_mean": measured_baseline(dataset, split),
    }
