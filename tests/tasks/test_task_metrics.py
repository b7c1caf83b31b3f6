"""Metrics against formulas written out a second time, and properties that any right implementation has."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qablate.catalog import METRICS
from qablate.tasks import classification_metrics, extra_metrics, regression_metrics
from qablate.tasks.metrics import bootstrap_interval, mean_predictor_mse

pytestmark = pytest.mark.filterwarnings("error")
VALUES = st.floats(-100, 100, width=32)


@st.composite
def regressions(draw):
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 4)))
    return [draw(hnp.arrays(np.float32, shape, elements=VALUES)) for _ in range(2)]


@st.composite
def classifications(draw):
    n = draw(st.integers(1, 30))
    logits = draw(hnp.arrays(np.float32, (n, 2), elements=st.sampled_from([-3, -1, 0, 0.5, 2])))
    return logits, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))


@given(regressions())
def test_regression_metrics_by_hand(case):
    outputs, targets = case
    pairs = [(float(o), float(t)) for o, t in zip(outputs.ravel(), targets.ravel(), strict=True)]
    n, mean = len(pairs), math.fsum(t for _, t in pairs) / len(pairs)
    sse, sst = math.fsum((o - t) ** 2 for o, t in pairs), math.fsum((t - mean) ** 2 for _, t in pairs)
    metrics = regression_metrics(outputs, targets)
    assert metrics["test_mse"] == pytest.approx(sse / n)
    assert metrics["test_mae"] == pytest.approx(math.fsum(abs(o - t) for o, t in pairs) / n)
    if targets.min() == targets.max():
        assert metrics["test_r2"] is None
    else:
        assert metrics["test_r2"] == pytest.approx(1 - sse / sst)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6])
def test_equal_targets_have_no_r2(value):
    targets, outputs = np.full((7, 3), value, dtype=np.float32), np.ones((7, 3), dtype=np.float32)
    assert regression_metrics(outputs, targets)["test_r2"] is None
    extra = extra_metrics("selective_copy", outputs, targets, targets, 1)
    assert extra["r2_output_means"] is None
    assert extra["r2_by_position"] == [None, None, None]
    assert extra["skill"] is None
    assert extra["primary_ci95"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_have_no_metrics(bad):
    outputs, targets = np.ones((5, 2), dtype=np.float32), np.eye(5, 2, dtype=np.float32)
    outputs[3, 1] = bad
    assert set(regression_metrics(outputs, targets).values()) == {None}
    metrics = classification_metrics(outputs, np.array([0, 1, 0, 1, 1]))
    assert [metrics[key] for key in ("test_acc", "test_auc", "test_f1", "test_loss")] == [None] * 4
    extra = extra_metrics("selective_copy", outputs, targets, targets, 1)
    assert extra.pop("baseline_test") == pytest.approx(mean_predictor_mse(targets, targets))
    assert set(extra.values()) == {None}
    extra = extra_metrics("forrelation", outputs, np.array([0, 1, 0, 1, 1]), np.array([0]), 1)
    assert extra.pop("majority_rate") == 0.6
    assert extra.pop("calibration_bins") == 10
    assert set(extra.values()) == {None}


def auc_by_pairs(scores, labels):
    wins = [(p > q) + 0.5 * (p == q) for p, a in zip(scores, labels, strict=True) if a == 1
            for q, b in zip(scores, labels, strict=True) if b == 0]
    return sum(wins) / len(wins) if wins else None


def f1_by_class(predicted, labels):
    total = 0.0
    for label in (0, 1):
        true = sum(1 for p, y in zip(predicted, labels, strict=True) if p == y == label)
        said, there = predicted.count(label), labels.count(label)
        precision, recall = true / said if said else 0.0, true / there if there else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        total += f1 * there
    return total / len(labels)


@given(classifications(), st.integers(1, 9))
def test_classification_metrics_by_hand(case, batch):
    logits, labels = case
    metrics = classification_metrics(logits, labels, batch)
    predicted = [int(b > a) for a, b in logits]
    pairs = zip(logits.tolist(), labels, strict=True)
    losses = [math.log(math.exp(a) + math.exp(b)) - (a, b)[label] for (a, b), label in pairs]
    batches = [losses[i:i + batch] for i in range(0, len(losses), batch)]
    margins = (logits[:, 1] - logits[:, 0]).tolist()
    assert metrics["test_acc"] == pytest.approx(np.mean([p == y for p, y in zip(predicted, labels, strict=True)]))
    assert metrics["test_f1"] == pytest.approx(f1_by_class(predicted, labels.tolist()))
    assert metrics["test_loss"] == pytest.approx(sum(sum(part) / len(part) for part in batches) / len(batches))
    assert metrics["test_auc"] == (None if auc_by_pairs(margins, labels) is None
                                   else pytest.approx(auc_by_pairs(margins, labels)))
    assert ("auc_note" in metrics) == (len(set(labels.tolist())) == 1)


def test_extras_of_selective_copy_by_hand():
    targets = np.array([[0, 0.5], [1, 0.5], [0.5, 0.8]])
    outputs = targets + [[0.05, -0.05], [0.2, 0], [0, 0.09]]
    extra = extra_metrics("selective_copy", outputs, targets, np.array([[0.0], [1.0]]), 1)
    sse = [0.05**2 + 0.2**2, 0.05**2 + 0.09**2]
    assert extra["position_accuracy"] == pytest.approx(5 / 6)
    assert extra["sequence_accuracy"] == pytest.approx(2 / 3)
    assert extra["r2_by_position"] == pytest.approx([1 - sse[0] / 0.5, 1 - sse[1] / 0.06])
    assert extra["r2_output_means"] == pytest.approx(1 - sum(sse) / 0.56)
    assert extra["baseline_test"] == pytest.approx((0.25 + 0.25 + 0.3**2) / 6)
    assert extra["skill"] == pytest.approx(1 - sum(sse) / 0.59)


def test_extras_of_forrelation_by_hand():
    probability = np.array([0.05, 0.05, 0.62, 0.68, 1.0])
    logits = np.stack([np.zeros(5), np.append(np.log(probability[:4] / (1 - probability[:4])), 100)], axis=1)
    labels = np.array([0, 1, 1, 0, 1])
    extra = extra_metrics("forrelation", logits, labels, labels, 1)
    assert extra["brier"] == pytest.approx((0.05**2 + 0.95**2 + 0.38**2 + 0.68**2) / 5)
    assert extra["calibration_error"] == pytest.approx((abs(0.1 - 1) + abs(1.3 - 1) + 0) / 5)
    assert extra["majority_rate"] == 0.6
    assert extra["constant_prediction"] is False
    assert extra_metrics("forrelation", logits[2:3], labels[2:3], labels, 1)["constant_prediction"] is True


@pytest.mark.parametrize("metric", [metric for metrics in METRICS.values() for metric in metrics])
def test_bootstrap_is_the_metric_of_resampled_items(metric):
    generator = np.random.default_rng(5)
    if metric in METRICS["classification"]:
        outputs, targets = generator.normal(size=(40, 2)), generator.integers(0, 2, 40)
    else:
        targets = generator.random((40, 3)) + 1e6     # far from 0: sums of squares alone would lose the digits
        outputs = targets + generator.normal(size=(40, 3)) * 0.1
    compute = classification_metrics if metric in METRICS["classification"] else regression_metrics
    draws = np.random.default_rng(9).integers(0, 40, size=(2000, 40))
    values = [compute(outputs[draw], targets[draw])[metric] for draw in draws]
    assert bootstrap_interval(metric, outputs, targets, 9) == pytest.approx(np.quantile(values, [0.025, 0.975]))
