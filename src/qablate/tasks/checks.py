"""Leak and sanity checks of one dataset: that the task can be solved, and only in the way it is meant to be.

Every check is a named value with the bounds it must lie in. Bounds hold for 5,000 items; where a bound leaves room for
sampling error, that room grows with 1/sqrt(items) for smaller datasets.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qablate.files import write_json
from qablate.tasks.dataset import Check, Dataset, generator_of
from qablate.tasks.draws import RandomWords, Split, permutation, split_of
from qablate.tasks.forrelation import decode_steps, phi
from qablate.tasks.marked_values import regions
from qablate.tasks.metrics import regression_metrics
from qablate.tasks.solvers import best_threshold, plug_in_phi, position_only_limit, ridge, ridge_accuracy

BATCH = 32
PLUG_IN_BOUNDS = {50: 0.92, 100: 0.985, 200: 0.995}
"""Lower bounds on the accuracy of the plug-in statistic by length, for 6 address bits."""


def check_dataset(dataset: Dataset) -> list[Check]:
    """Run the checks of a dataset's task and those of all tasks; a few seconds at 1,000 steps."""
    task = dataset.spec.task
    checks = (*PUBLISHED_CHECKS.get(task, ()), *generator_of(task).checks, duplicates, split_faults)
    return [check for run in checks if (check := run(dataset)) is not None]


def write_checks(dataset: Dataset, path: Path) -> list[Check]:
    """Run all checks and keep them as JSON next to a dataset, with the hash of the bytes they were run on."""
    checks = check_dataset(dataset)
    rows = [{"name": check.name, "value": check.value if math.isfinite(check.value) else None, "bound": check.bound,
             "passed": check.passed} for check in checks]
    write_json(path, {"dataset_sha256": dataset.sha256, "checks": rows})
    return checks


def target_from_input(dataset: Dataset) -> Check:
    """T1: reading the marked steps off channel 1 gives the stored marker indices and, exactly, the target."""
    marked = dataset.sequences[:, :, 1] == 1
    name, n_markers = "T1 targets not read off the input", int(dataset.spec.parameters["n_markers"])
    if (marked.sum(axis=1) != n_markers).any():
        return Check(name, math.nan, 0, 0)
    positions = np.nonzero(marked)[1].reshape(-1, n_markers)
    values = np.take_along_axis(dataset.sequences[:, :, 0], positions, axis=1)
    if dataset.spec.task == "adding_problem":
        values = values[:, :1] + values[:, 1:]
    wrong = (values != dataset.targets).any(axis=1) | (positions != dataset.extras["marker_indices"]).any(axis=1)
    return Check(name, float(wrong.sum()), 0, 0)


def marker_counts(dataset: Dataset) -> Check:
    """T2: exactly the right number of markers, each 0 or 1, and for adding each in its region."""
    markers, parameters = dataset.sequences[:, :, 1], dataset.spec.parameters
    wrong = ((markers != 0).sum(axis=1) != parameters["n_markers"]) | ((markers != 0) & (markers != 1)).any(axis=1)
    if dataset.spec.task == "adding_problem":
        for region in regions(dataset.spec.length, str(parameters["placement"])):
            wrong |= ~markers[:, region.start:region.stop].any(axis=1)
    return Check("T2 items with wrong markers", float(wrong.sum()), 0, 0)


def mean_correlation(dataset: Dataset) -> Check:
    """T3: the mean of all values correlates with the sum of targets as sqrt(markers / length) and no more."""
    totals = dataset.targets.sum(axis=1, dtype=np.float64)
    means = dataset.sequences[:, :, 0].mean(axis=1, dtype=np.float64)
    expected = math.sqrt(int(dataset.spec.parameters["n_markers"]) / dataset.spec.length)
    room = 4.5 / math.sqrt(len(totals))     # 4.5 standard errors
    return Check("T3 correlation of target and mean value", float(np.corrcoef(totals, means)[0, 1]),
                 expected - room, expected + room)


def unmarked_ridge(dataset: Dataset) -> Check:
    """T3: with markers taken from another item, a ridge on all inputs stays at what marker positions allow."""
    split = split_of(dataset.spec)
    shuffled = dataset.sequences.copy()
    n, length = shuffled.shape[:2]
    shuffled[:, :, 1] = shuffled[permutation(RandomWords(0).take(n - 1)), :, 1]
    features = shuffled.reshape(n, 2 * length)
    predicted = ridge((features[split.train], dataset.targets[split.train]),
                      (features[split.val], dataset.targets[split.val]), features[split.test])
    r2 = regression_metrics(predicted, dataset.targets[split.test])["test_r2"]
    placement = str(dataset.spec.parameters["placement"])
    if dataset.spec.task == "selective_copy":    # of a linear rule that knows where markers may lie but not where
        limit = position_only_limit(length, int(dataset.spec.parameters["n_markers"]))
    else:
        limit = 2 / length if placement == "uniform" else 1 / len(regions(length, placement)[0])
    high = limit + 0.03 * math.sqrt(max(1.0, 500 / len(split.test)))
    return Check("T3 R2 of ridge with shuffled markers", math.nan if r2 is None else r2, -math.inf, high)


def marginal_ridge(dataset: Dataset) -> Check:
    """T4: statistics of single channels and neighbouring steps do not tell the classes apart.

    Features (n, f): mean and deviation of every channel, its mean lag-1 product, and the mean of f(x) g(y).
    """
    split, steps = split_of(dataset.spec), dataset.sequences.astype(np.float64)
    lagged = (steps[:, :-1] * steps[:, 1:]).sum(axis=1) / steps.shape[1]
    _, values = decode_steps(dataset.sequences, int(dataset.spec.parameters["n_bits"]))
    products = values.prod(axis=2).mean(axis=1)    # f(x) g(y)
    features = np.concatenate([steps.mean(axis=1), steps.std(axis=1), lagged, products[:, None]], axis=1)
    held_out = np.concatenate([split.val, split.test])
    half = len(split.train) // 2     # the penalty is chosen on the second half of the training set
    accuracy = ridge_accuracy(features, dataset.targets, Split(split.train[:half], split.train[half:], held_out))
    room = 0.05 * math.sqrt(max(1.0, 1000 / len(held_out)))
    return Check("T4 accuracy of ridge on marginals", accuracy, 0.5 - room, 0.5 + room)


def plug_in_accuracy(dataset: Dataset) -> Check | None:
    """T6: Phi of the seen entries, its threshold from the training set, solves the hold-out; None without a bound."""
    spec, split = dataset.spec, split_of(dataset.spec)
    held_out = np.concatenate([split.val, split.test])
    if spec.length not in PLUG_IN_BOUNDS or spec.parameters["n_bits"] != 6 or len(held_out) < 1000:
        return None
    scores = plug_in_phi(dataset.sequences, 6)
    threshold = best_threshold(scores[split.train], dataset.targets[split.train])
    accuracy = float(np.mean((scores[held_out] > threshold) == (dataset.targets[held_out] == 1)))
    return Check("T6 accuracy of the plug-in statistic", accuracy, PLUG_IN_BOUNDS[spec.length], 1)


def phi_of_class_zero(dataset: Dataset) -> Check:
    """T7: |Phi| of the full tables of class 0 stays below the cut."""
    values = phi(dataset.extras["tables"])[dataset.targets == 0]
    below = math.nextafter(float(dataset.spec.parameters["reject_abs_phi"]), 0)
    return Check("T7 largest |Phi| in class 0", float(np.abs(values).max(initial=0)), 0, below)


def phi_of_class_one(dataset: Dataset) -> Check:
    """T7: Phi of the full tables of class 1 stays above 0.375, at other sizes than 6 bits above the cut."""
    values = phi(dataset.extras["tables"])[dataset.targets == 1]
    parameters = dataset.spec.parameters
    low = 0.375 if parameters["n_bits"] == 6 else float(parameters["reject_abs_phi"])
    return Check("T7 smallest Phi in class 1", float(values.min(initial=1)), math.nextafter(low, 1), 1)


def steps_from_tables(dataset: Dataset) -> Check:
    """T7: every step shows the entry of the stored table at the address it shows."""
    addresses, values = decode_steps(dataset.sequences, int(dataset.spec.parameters["n_bits"]))
    stored = np.take_along_axis(dataset.extras["tables"], addresses.transpose(0, 2, 1), axis=2)
    return Check("T7 steps at odds with the tables", float((stored.transpose(0, 2, 1) != values).sum()), 0, 0)


def alternating_labels(dataset: Dataset) -> Check:
    """T12: labels alternate in the stored order, so that classes are equally frequent."""
    equal = dataset.targets[1:] == dataset.targets[:-1]
    return Check("T12 equal neighbours in stored order", float(equal.sum()), 0, 0)


def one_class_batches(dataset: Dataset) -> Check:
    """T12: in the order of the training split no full batch is of one class."""
    labels = dataset.targets[split_of(dataset.spec).train]
    positives = labels[:len(labels) // BATCH * BATCH].reshape(-1, BATCH).sum(axis=1)
    return Check("T12 one-class batches after the split", float(((positives == 0) | (positives == BATCH)).sum()), 0, 0)


def duplicates(dataset: Dataset) -> Check:
    """T8: all sequences differ."""
    distinct = {hashlib.blake2b(item.tobytes(), digest_size=16).digest() for item in dataset.sequences}
    return Check("T8 repeated sequences", float(len(dataset.sequences) - len(distinct)), 0, 0)


def split_faults(dataset: Dataset) -> Check:
    """T8: every item is in exactly one of training, validation and test."""
    split, n = split_of(dataset.spec), dataset.spec.n_items
    times_used = np.bincount(split.permutation, minlength=n)
    return Check("T8 items not in exactly one part", float((times_used != 1).sum()), 0, 0)


MARKED_CHECKS = (target_from_input, marker_counts, mean_correlation, unmarked_ridge)
PUBLISHED_CHECKS: dict[str, tuple[Callable[[Dataset], Check | None], ...]] = {
    "adding_problem": MARKED_CHECKS,
    "selective_copy": MARKED_CHECKS,
    "forrelation": (marginal_ridge, plug_in_accuracy, phi_of_class_zero, phi_of_class_one, steps_from_tables,
                    alternating_labels, one_class_batches),
}
"""Checks of the published tasks, which rest on the reference solvers; a task may bring its own (`Generator.checks`)."""
