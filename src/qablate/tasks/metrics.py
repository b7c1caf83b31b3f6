"""Test metrics, as published and beyond, from the outputs of a model on the test split; what a model must beat.

All arithmetic is float64. A metric that cannot be computed (outputs that are not finite, targets that are all equal) is
None. The nominal baseline is the constant the published files carry; the measured one belongs to one dataset and its
test split. Shapes: n items, o outputs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qablate.catalog import METRICS, task_info
from qablate.tasks.dataset import Array, Dataset, generator_of
from qablate.tasks.draws import Split, split_of

Floats = NDArray[np.float64]
Metrics = dict[str, Any]

ACCURATE_WITHIN = 0.1
CALIBRATION_BINS = 10
BOOTSTRAP_DRAWS = 2000
BOOTSTRAP_LEVEL = 0.95


def majority_rate(labels: NDArray[np.int64]) -> float:
    """Accuracy of the better one of the two constant predictions on `labels` (n,)."""
    positive = float(np.mean(labels == 1))
    return max(positive, 1 - positive)


def mean_predictor_mse(train_targets: Array, targets: Array) -> float:
    """MSE on `targets` (n, o) of one number for all outputs, the mean of `train_targets` (m, o)."""
    errors = targets.astype(np.float64) - train_targets.mean(dtype=np.float64)
    return float(np.mean(errors**2))


def measured_baseline(dataset: Dataset, split: Split) -> float:
    """Majority rate of the test split, or the test MSE of the training mean."""
    test = dataset.targets[split.test]
    if dataset.spec.info.kind == "classification":
        return majority_rate(test)
    return mean_predictor_mse(dataset.targets[split.train], test)


def dataset_statistics(dataset: Dataset) -> Metrics:
    """Return the numbers kept next to a dataset: baselines, label counts or moments of targets, its task's own."""
    split, targets, info = split_of(dataset.spec), dataset.targets, dataset.spec.info
    baseline = measured_baseline(dataset, split)
    if info.kind == "classification":
        parts = {"train": split.train, "val": split.val, "test": split.test}
        of_kind: Metrics = {f"{name}_positives": int(targets[part].sum()) for name, part in parts.items()}
        of_kind |= {f"{name}_majority_rate": majority_rate(targets[parts[name]]) for name in ("val", "test")}
    else:
        wide = targets.astype(np.float64)
        of_kind = {
            "target_mean": float(wide.mean()),
            "target_std": float(wide.std()),
            "val_target_var": float(wide[split.val].var()),     # around one grand mean, as in the published R2
            "test_target_var": float(wide[split.test].var()),
            "test_mse_of_train_mean": baseline,
        }
    return {"nominal_baseline": info.nominal_baseline, "measured_baseline": baseline, **of_kind,
            **generator_of(dataset.spec.task).statistics(dataset)}


def regression_metrics(outputs: Array, targets: Array) -> Metrics:
    """Return `test_mse`, `test_mae` and `test_r2` of outputs and targets (n, o).

    All are over items and outputs together; R2 is 1 - SSE/SST with one grand mean of the targets, as published.
    """
    if not np.isfinite(outputs).all():
        return {"test_mse": None, "test_mae": None, "test_r2": None}
    outputs, targets = outputs.astype(np.float64), targets.astype(np.float64)
    errors = outputs - targets
    return {
        "test_mse": float(np.mean(errors**2)),
        "test_mae": float(np.mean(np.abs(errors))),
        "test_r2": _r2(np.sum(errors**2), _total_squares(targets)),
    }


def classification_metrics(logits: Array, labels: Array, batch_size: int = 32) -> Metrics:
    """Return `test_acc`, `test_auc`, `test_f1` and `test_loss` of logits (n, 2) and labels (n,).

    F1 is weighted by class support. The loss is the mean of the batches' mean cross-entropies in the order given, as
    published: a short last batch weighs as much as a full one. With one class only, AUC is None and `auc_note` says so.
    """
    if not np.isfinite(logits).all():
        note = "outputs are not finite"
        return {"test_acc": None, "test_auc": None, "test_f1": None, "test_loss": None, "auc_note": note}
    logits = logits.astype(np.float64)
    predicted = logits.argmax(axis=1)
    losses = cross_entropies(logits, labels)
    batches = [losses[start:start + batch_size].mean() for start in range(0, len(losses), batch_size)]
    metrics: Metrics = {
        "test_acc": float(np.mean(predicted == labels)),
        "test_auc": area_under_roc(class_one_probability(logits), labels),
        "test_f1": weighted_f1(predicted, labels),
        "test_loss": float(np.mean(batches)),
    }
    if metrics["test_auc"] is None:
        metrics["auc_note"] = "all labels are of one class"
    return metrics


def class_one_probability(logits: Floats) -> Floats:
    """Return the softmax probability (n,) of class 1 for logits (n, 2)."""
    margin = np.abs(logits[:, 1] - logits[:, 0])
    smaller = np.exp(-margin) / (1 + np.exp(-margin))
    return np.where(logits[:, 1] > logits[:, 0], 1 - smaller, smaller)


def cross_entropies(logits: Floats, labels: Array) -> Floats:
    """Return the cross-entropy (n,) in nats of every item."""
    largest = logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    return log_sums - logits[np.arange(len(labels)), labels]


def area_under_roc(scores: Floats, labels: Array) -> float | None:
    """Return the probability that a positive item scores above a negative one, ties counting half.

    None when all labels are of one class.
    """
    n_positive = int((labels == 1).sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2     # rank from 1, the mean one among equal scores
    rank_sum = midranks[inverse][labels == 1].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def weighted_f1(predicted: Array, labels: Array) -> float:
    """Return the mean of the two classes' F1, weighted by support; a class never met nor predicted counts 0."""
    total = 0.0
    for label in (0, 1):
        is_label, says_label = labels == label, predicted == label
        denominator = int(is_label.sum() + says_label.sum())
        f1 = 2 * int((is_label & says_label).sum()) / denominator if denominator else 0.0
        total += f1 * int(is_label.sum())
    return total / len(labels)


def extra_metrics(task: str, outputs: Array, targets: Array, train_targets: Array, bootstrap_seed: int) -> Metrics:
    """Return everything reported next to the published metrics, including `primary_ci95`.

    `outputs` are (n, o) values or (n, 2) logits of the test items, `targets` (n, o) or labels (n,); `train_targets`
    give the mean predictor. The interval resamples the test items (percentiles of 2,000 draws): it says how far the
    score depends on these items, nothing about other seeds.
    """
    info, finite = task_info(task), bool(np.isfinite(outputs).all())
    wide = outputs.astype(np.float64)
    if info.kind == "classification":
        known: Metrics = {"majority_rate": majority_rate(targets), "calibration_bins": CALIBRATION_BINS}
        metrics = dict.fromkeys(("constant_prediction", "brier", "calibration_error"))
        if finite:
            metrics = _classification_extras(wide, targets)
    else:
        known = {"baseline_test": mean_predictor_mse(train_targets, targets)}
        metrics = dict.fromkeys(("skill", "r2_output_means", "r2_by_position", "position_accuracy",
                                 "sequence_accuracy"))
        if finite:
            metrics = _regression_extras(wide, targets.astype(np.float64), known["baseline_test"])
    interval = bootstrap_interval(info.metric, wide, targets, bootstrap_seed) if finite else None
    return {**known, **metrics, "primary_ci95": interval}


def _regression_extras(outputs: Floats, targets: Floats, baseline: float) -> Metrics:
    squared = (outputs - targets) ** 2     # (n, o)
    sst = [_total_squares(column) for column in targets.T]
    accurate = np.abs(outputs - targets) < ACCURATE_WITHIN
    return {
        "skill": _r2(squared.mean(), baseline),
        "r2_output_means": _r2(squared.sum(), sum(sst)),
        "r2_by_position": [_r2(sse, total) for sse, total in zip(squared.sum(axis=0), sst, strict=True)],
        "position_accuracy": float(accurate.mean()),
        "sequence_accuracy": float(accurate.all(axis=1).mean()),
    }


def _classification_extras(logits: Floats, labels: Array) -> Metrics:
    probability, predicted = class_one_probability(logits), logits.argmax(axis=1)
    return {
        "constant_prediction": bool((predicted == predicted[0]).all()),
        "brier": float(np.mean((probability - labels) ** 2)),
        "calibration_error": calibration_error(probability, labels),
    }


def calibration_error(probability: Floats, labels: Array) -> float:
    """Return the expected calibration error: |mean probability - rate of ones|, averaged over items.

    Bins are CALIBRATION_BINS equal intervals of the class-1 probability from 0 to 1; an empty one counts nothing.
    """
    bins = np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=probability - labels, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def bootstrap_interval(metric: str, outputs: Array, targets: Array, seed: int) -> list[float] | None:
    """Return the 95 % percentile interval of a test metric over resampled items.

    None when a draw has no value (R2 of equal targets, AUC of one class).
    """
    generator, n = np.random.default_rng(seed), len(targets)
    draws = (generator.integers(0, n, size=n) for _ in range(BOOTSTRAP_DRAWS))
    if metric == "test_acc":    # as below, without the time that the other metrics of a classification take
        hits = outputs.argmax(axis=1) == targets
        values = [hits[draw].mean() for draw in draws]
    else:
        compute = classification_metrics if metric in METRICS["classification"] else regression_metrics
        values = [compute(outputs[draw], targets[draw])[metric] for draw in draws]
    tail = (1 - BOOTSTRAP_LEVEL) / 2
    return None if None in values else [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def _total_squares(targets: Floats) -> float:
    """Sum of squares around the mean; exactly 0 for equal targets, where rounding of the mean would leave a trace."""
    return float(((targets - targets.mean()) ** 2).sum()) if np.ptp(targets) > 0 else 0.0


def _r2(sse: float, sst: float) -> float | None:
    return float(1 - sse / sst) if sst > 0 else None
