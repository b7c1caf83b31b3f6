"""The recipe, early stopping, divergence, isolation of the test items; what a cell leaves; the captured step, seeds."""

import copy
import hashlib
import json
import math
import os

import numpy as np
import pytest
import torch
from tiny import StopAfter, tiny_study, with_dataset

from qablate.models import ModelSettings, build_model
from qablate.records import METRICS, companion
from qablate.results import read_record, state_of
from qablate.tasks import split_of
from qablate.tasks.store import load_dataset
from qablate.training import loop
from qablate.training.cell import train_cell
from qablate.training.cuda_graph import CudaGraphStep, CudaGraphTraining
from qablate.training.interrupts import Interrupts, Stopped
from qablate.training.loop import (
    EVALUATION_BATCH,
    GPU_EVALUATION_BATCH,
    EagerAdamW,
    Items,
    Streams,
    Training,
    TrainingStep,
    cut,
    outputs_of,
)
from qablate.training.record import legacy_score

SETTINGS = {"learning_rate": 1e-2, "weight_decay": 1e-2, "max_epochs": 10, "clip_norm": 0.1}


@pytest.fixture
def study(tmp_path):
    return tiny_study(tmp_path / "results")


class Constant(torch.nn.Module):
    """Outputs that do not depend on the input."""

    def __init__(self, n_outputs: int = 1) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(n_outputs))

    def forward(self, inputs):
        return self.value.expand(len(inputs), -1)


def training_of(study, cell, model=None, kind=Training) -> Training:
    spec = study.dataset(cell.task, cell.length, cell.seed)
    data = cut(load_dataset(study.dataset_path(cell), spec), split_of(spec), torch.device("cpu"))
    model = model or Constant(spec.n_outputs)
    return kind(model, spec.info.kind, data, Streams(2024, "x"), study.config["training"])


def run(training: Training) -> Training:
    training.run(Interrupts(1e9, None), lambda: None)
    return training


def test_learning_rate_is_the_published_cosine():
    settings = {"learning_rate": 1e-3, "weight_decay": 1e-4, "max_epochs": 100, "clip_norm": 1.0}
    step = TrainingStep(Constant(), "regression", settings)
    rates = [step.learning_rate(epoch) for epoch in range(1, 101)]
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    for rate in rates:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_step_equals_a_plain_adamw_step():
    torch.manual_seed(0)
    model, twin = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
    twin.load_state_dict(model.state_dict())
    step = TrainingStep(model, "regression", SETTINGS)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(5):
        inputs, targets = torch.rand(8, 4), torch.rand(8, 1)
        outcome = step(inputs, targets)
        plain.zero_grad()
        loss = ((twin(inputs) - targets) ** 2).mean()
        assert outcome.loss == pytest.approx(loss.item(), rel=1e-6)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
        plain.step()
    assert torch.allclose(model.weight, twin.weight, atol=1e-6)


@pytest.mark.parametrize(("dtype", "fused"), [(torch.float32, True), (torch.complex64, False)])
def test_optimiser_equals_torchs_to_the_bit(dtype, fused):
    torch.manual_seed(0)
    start = torch.randn(7, dtype=dtype)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 1e-2, "weight_decay": 1e-2, "fused": fused}
    optimizer, plain = EagerAdamW([ours], **settings), torch.optim.AdamW([theirs], **settings)
    for _ in range(3):
        ours.grad = torch.randn(7, dtype=dtype)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        plain.step()
        again = EagerAdamW([ours], **settings)
        again.load_state_dict(copy.deepcopy(plain.state_dict()))    # checkpoints of either are checkpoints of the other
        optimizer = again
    assert torch.equal(ours, theirs)
    optimizer.zero_grad()
    assert ours.grad is None


@pytest.mark.parametrize(("task", "values", "best"), [
    ("adding_problem", [0.5, 0.4, 0.4, 0.4, 0.4], 2), ("forrelation", [0.5, 0.6, 0.6, 0.6, 0.6], 2),
    ("forrelation", [0.0, 0.0, 0.0], None),    # a classifier at zero accuracy never improves
])
def test_only_strict_improvement_counts_and_patience_stops(study, monkeypatch, task, values, best):
    cell, found = with_dataset(study, task=task), iter(values)
    monkeypatch.setattr(loop, "validation_values", lambda *_: (1.0, next(found)))
    study.config["training"] |= {"patience": 3}
    training = run(training_of(study, cell))
    progress = training.progress
    assert (progress.best_epoch, len(progress.seconds), progress.stop_reason) == (best, len(values), "patience")
    assert (training.best_weights is None) == (best is None)


def inject(monkeypatch, outcome_at, make):
    """Replace the outcome of chosen steps (counted from 0) of every TrainingStep."""
    original, count = TrainingStep.__call__, iter(range(10**6))

    def call(self, inputs, targets):
        outcome = original(self, inputs, targets)
        return make(outcome) if outcome_at(next(count)) else outcome

    monkeypatch.setattr(TrainingStep, "__call__", call)


def test_running_losses_are_weighted_as_published(study, monkeypatch):
    """96 items in batches of 36: regression weights a batch by its items, classification takes the mean of means."""
    study.config["training"] |= {"max_epochs": 1, "batch_size": 36}
    for task, expected in (("adding_problem", (36 * 1 + 36 * 2 + 24 * 6) / 96), ("forrelation", 3.0)):
        training = training_of(study, with_dataset(study, task=task))
        losses = iter([1.0, 2.0, 6.0])
        with monkeypatch.context() as patch:
            inject(patch, lambda n: True, lambda outcome, losses=losses: outcome._replace(loss=next(losses)))
            run(training)
        assert training.progress.history["train_loss"] == [pytest.approx(expected)]


@pytest.mark.parametrize(("step", "loss", "epoch"), [(2 * 6 + 1, math.nan, 3), (0, math.inf, 1)])   # 6 batches an epoch
def test_a_loss_that_is_not_finite_is_a_diverged_result_with_its_curve(study, monkeypatch, capsys, step, loss, epoch):
    cell = with_dataset(study)
    inject(monkeypatch, lambda n: n == step, lambda outcome: outcome._replace(loss=loss))
    assert train_cell(study, cell, study.result_path(cell)) == 0
    record = read_record(study.result_path(cell))
    training, curve = record["training"], record["history"]["val_loss"]
    assert (record["status"], training["diverged_epoch"], training["stop_reason"]) == ("diverged", epoch, "non_finite")
    assert curve[epoch - 1] is None and None not in curve[: epoch - 1]
    assert len(curve) == record["epochs_trained"] == epoch
    assert record["test_mse"] is not None and (record["best_val_metric"] is None) == (epoch == 1)
    assert '"status": "diverged"' in capsys.readouterr().out


def test_a_few_bad_gradients_are_counted_ten_in_a_row_diverge(tmp_path, monkeypatch):
    for name, count, status in (("few", 9, "ok"), ("many", 10, "diverged")):
        study = tiny_study(tmp_path / name)
        cell = with_dataset(study)
        with monkeypatch.context() as patch:
            inject(patch, lambda n, count=count: 8 <= n < 8 + count, lambda o: o._replace(taken=False))
            train_cell(study, cell, study.result_path(cell))
        record = read_record(study.result_path(cell))
        assert record["status"] == status
        assert record["training"]["nonfinite_grad_steps"] == count


def test_a_step_with_a_bad_gradient_changes_no_weight():
    step = TrainingStep(Constant(), "regression", SETTINGS)
    step.model.value.register_hook(lambda grad: grad * math.nan)
    outcome = step(torch.rand(4, 2, 5), torch.rand(4, 1))
    assert not outcome.taken
    assert step.model.value.item() == 0.0


@pytest.mark.parametrize("model_id", ["1b", "2d", "3a", "3b", "4d"])
def test_outputs_in_larger_batches_are_the_same_to_the_stated_tolerance(model_id):
    torch.manual_seed(1)
    model, inputs = build_model(model_id, 2, 16, 1), torch.rand(200, 2, 16)
    small, large = (outputs_of(model, inputs, batch_size=size) for size in (EVALUATION_BATCH, GPU_EVALUATION_BATCH))
    assert torch.allclose(small, large, atol=1e-5, rtol=0)


def real_training(study, cell, kind=CudaGraphTraining) -> Training:
    """The loop over the step that a CUDA graph captures, run uncaptured; or another kind of loop."""
    torch.manual_seed(0)
    spec, settings = study.dataset(cell.task, cell.length, cell.seed), ModelSettings(**study.config["model"])
    model = build_model(cell.model, spec.n_channels, cell.length, spec.n_outputs, settings)
    return training_of(study, cell, model, kind)


def test_the_test_half_reaches_nothing_but_the_test_scores(study):
    """Replace the test items by noise: weights, chosen epoch and curves must not change by one bit."""
    cell, found = with_dataset(study, task="forrelation"), []
    for noise in (False, True):
        training = real_training(study, cell, Training)
        training.legacy_metric, test = True, training.data.test
        if noise:
            test.inputs.copy_(torch.rand_like(test.inputs))
            test.targets.copy_(1 - test.targets)
        found.append(run(training))
    plain, noisy = found
    assert plain.progress.legacy_correct != noisy.progress.legacy_correct
    assert (plain.progress.history, plain.progress.best_epoch) == (noisy.progress.history, noisy.progress.best_epoch)
    for one, other in ((plain.model.state_dict(), noisy.model.state_dict()), (plain.best_weights, noisy.best_weights)):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(("model", "task"), [("2a", "adding_problem"), ("1b", "forrelation")])
def test_curves_of_the_captured_step_are_those_of_the_plain_loop(study, model, task):
    cell = with_dataset(study, model, task)
    plain, graphed = (run(real_training(study, cell, kind)) for kind in (Training, CudaGraphTraining))
    for key in ("train_loss", "train_metric", "val_loss", "val_metric"):
        assert graphed.progress.history[key] == pytest.approx(plain.progress.history[key], rel=1e-3), key
    assert graphed.progress.best_epoch == plain.progress.best_epoch


def test_the_captured_step_stopped_within_an_epoch_goes_on_to_the_same_bits(study):
    cell = with_dataset(study, "2a")
    whole = run(real_training(study, cell))
    first, kept = real_training(study, cell), {}
    with pytest.raises(Stopped):
        first.run(StopAfter(15), lambda: kept.update(copy.deepcopy(first.state())))
    assert kept["progress"]["batch"] > 0
    second = real_training(study, cell)
    second.restore(kept)
    run(second)
    assert second.progress.history == whole.progress.history
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


class Small(torch.nn.Module):
    """Real and complex parameters, as the models have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.phases = torch.nn.Linear(6, 4), torch.nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (self.inner(inputs.flatten(1)) * self.phases).abs()


def weights(step) -> torch.Tensor:
    return torch.cat([torch.view_as_real(p).flatten() if p.is_complex() else p.flatten()
                      for p in step.model.parameters()]).detach().clone()


def test_a_captured_step_with_a_bad_gradient_skips_its_update_and_many_halt():
    torch.manual_seed(0)
    items = Items(torch.randn(20, 2, 3), torch.randn(20, 4))
    graph = CudaGraphStep(Small(), "regression", items, SETTINGS, 3)
    graph.begin_epoch(0.01, skipped_run=2)
    graph(torch.arange(8), 1.0)
    assert graph.read().skipped_run == 0    # a taken update ends a run of skipped ones
    before, moments = weights(graph), [s["exp_avg"].clone() for o in graph.optimizers for s in o.state.values()]
    hook = graph.model.inner.weight.register_hook(lambda grad: grad * torch.nan)
    graph(torch.arange(8), 1.0)
    assert torch.equal(before, weights(graph))
    after = [s["exp_avg"] for o in graph.optimizers for s in o.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert {float(s["step"]) for o in graph.optimizers for s in o.state.values()} == {1.0}
    sums = graph.read()
    assert (sums.batches, sums.skipped, sums.skipped_run, sums.halted) == (1, 1, 1, False)
    graph(torch.arange(8), 1.0)
    graph(torch.arange(8), 1.0)
    hook.remove()
    graph(torch.arange(8), 1.0)  # after the halt: neither counted nor learned from
    sums = graph.read()
    assert (sums.batches, sums.skipped, sums.skipped_run, sums.halted) == (2, 2, 3, True)
    assert torch.equal(before, weights(graph))


def test_a_loss_that_is_not_finite_ends_the_epoch_as_diverged(study):
    cell = with_dataset(study, "3a")
    training = real_training(study, cell)
    training.data.train.targets[40] = math.nan
    run(training)
    assert (training.progress.stop_reason, training.progress.diverged_epoch) == ("non_finite", 1)
    assert training.progress.history["val_loss"] == [None]


@pytest.mark.parametrize(("budget", "last"), [(5, 4), (100, 90), (7200, 7140)])
def test_a_budget_leaves_time_to_save(monkeypatch, budget, last):
    monkeypatch.setattr("time.monotonic", lambda: 1e4)
    assert Interrupts(1e9, budget, 1e4 - last).stop_reason() is None
    assert Interrupts(1e9, budget, 1e4 - last - 0.1).stop_reason() == f"wall-clock budget of {budget} s"


PUBLISHED_KEYS = ("model_id model_name model_info task task_type seq_len seed n_params hyperparameters data_info "
                  "history best_val_metric").split()
LATER_KEYS = ["baseline", "training_time", "epochs_trained", "timestamp"]


@pytest.mark.parametrize("task", ["adding_problem", "forrelation", "selective_copy"])
def test_a_cell_leaves_a_whole_result(study, task):
    cell = with_dataset(study, "2d", task)
    output = study.result_path(cell)
    assert train_cell(study, cell, output) == 0
    record = read_record(output)
    assert state_of(study, cell).state == "done"
    assert record["status"] == "ok"
    assert (record["provenance"]["matmul_precision"], record["provenance"]["cudnn_tf32"]) == ("highest", False)
    assert (record["provenance"]["peak_gpu_memory_mb"] is None) == (record["provenance"]["device_type"] == "cpu")
    assert not torch.backends.cuda.mem_efficient_sdp_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
    published = [*PUBLISHED_KEYS, *METRICS[record["task_type"]], *LATER_KEYS]
    assert list(json.loads(output.read_text()))[: len(published)] == published    # first, and in their order
    with np.load(companion(output, "predictions.npz")) as arrays:
        assert len(arrays["test_indices"]) == record["split"]["n_test"] == 12
        assert arrays["outputs"].shape == (12, record["data_info"]["output_dim"])
    assert (record["legacy"] is not None) == (task == "forrelation")
    assert sorted(path.suffix for path in output.parent.iterdir() if path.is_file()) == [".json", ".npz", ".pt"]


CELL = "published/published/1b/adding_problem/L100"


def test_seed_follows_the_stated_formula():
    text = f"qablate-rng-1/shuffle/2024/{CELL}/7"
    expected = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") % 2**63
    assert Streams(2024, CELL).seed("shuffle", 7) == expected


@pytest.mark.parametrize(
    ("validation", "test", "epoch", "score", "censored"),
    [
        ([250, 260, 240, 250, 251], [250, 250, 290, 200, 200], 3, 0.53, True),    # we stopped before the published rule
        ([260, 250, 250, 250, 400], [250, 250, 250, 250, 400], 1, 0.51, False),    # it stops even if we went on
        ([250] * 99 + [251], [251] * 98 + [252, 252], 100, 0.503, False),    # to the last epoch
    ],
)
def test_legacy_score_is_that_of_the_published_rule(validation, test, epoch, score, censored):
    patience = 3 if epoch < 100 else 100
    found = legacy_score([correct / 500 for correct in validation], test, 500, 500, patience, 100)
    assert found["legacy_acc_selected_on_holdout"] == pytest.approx(score)
    assert (found["epoch"], found["legacy_censored"]) == (epoch, censored)
    assert legacy_score([0, 0], [0, 0], 500, 500, 3, 100) is None
