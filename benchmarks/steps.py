"""Timing of whole training steps: forward, backward, clipping and AdamW of one batch, as training does them.

The opponent is the same model with `backend: pennylane` (one broadcast QNode a circuit), the unbind loop as scan and
PyTorch's dropout, norm, gate and convolution.
Shapes: b batch, c channels, l length.
"""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from timing import Timing, time_side_by_side
from torch import Tensor

from qablate.catalog import TaskKind
from qablate.models import ModelSettings, build_model, fused, mixers
from qablate.quantum import execution
from qablate.study import DatasetSpec, Study
from qablate.training.cuda_graph import CudaGraphStep
from qablate.training.loop import EVALUATION_BATCH, GPU_EVALUATION_BATCH, MAX_NONFINITE_RUN, Items, TrainingStep

LENGTHS = (100, 200, 1000)
LONGEST_BASELINE = 200
"""The opponent is run up to this length only: beyond, the unbind loop of 3c keeps over 10 GB."""

OURS, BASELINE, EVALUATION, CIRCUITS, SCANS = "qablate", "pennylane+loop", "evaluation", "circuits", "scans"
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def measure_steps(
    study: Study, task: str, models: Iterable[str], lengths: Iterable[int], rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """One row for each model and length: times of step, opponent and evaluation, shares of the step, epoch."""
    return [
        measure_step(study, study.dataset(task, length, study.config["seeds"][0]), model, rounds, device,
                     compare=length <= LONGEST_BASELINE)
        for model in models
        for length in lengths
    ]


def measure_step(
    study: Study, spec: DatasetSpec, model: str, rounds: int, device: torch.device, compare: bool, share: bool = True
) -> dict[str, Any]:
    """Time one model on batches of one dataset's shape.

    `compare` runs the opponent too; `share` what no model can do without: its circuits and scans alone, and its matrix
    products by torch's profiler. Their sum, as a share of the step, is `floor_share`.
    """
    ours = trained_model(study, spec, model, device, study.config["quantum"]["backend"], "auto")
    batch = batch_of(study, spec, device)
    calls: dict[str, Callable[[], object]] = {
        OURS: as_trained(study, spec, ours, batch),
        EVALUATION: _evaluation(ours, batch[0]),
    }
    parts = {CIRCUITS: (execution, "_run"), SCANS: (mixers, "selective_scan")} if share else {}
    for name, (module, function) in parts.items():
        if alone := calls_alone(lambda: ours(*batch), module, function):
            calls[name] = alone
    if compare:
        opponent = trained_model(study, spec, model, device, "pennylane", "reference")
        calls[BASELINE] = _in_plain_torch(lambda: opponent(*batch))
    timings = time_side_by_side(calls, rounds)
    row = {"part": "step", "task": spec.task, "model": model, "length": spec.length,
           **_row(timings, spec, study, batch[0].is_cuda)}
    if share:
        known = sum(1 / timings[name].ratio_to(timings[OURS]) for name in parts if name in timings)
        row["floor_share"] = round(known + products_ms(lambda: ours(*batch)) / timings[OURS].cpu, 4)
    return row


def trained_model(
    study: Study, spec: DatasetSpec, model: str, device: torch.device, backend: str, scan_backend: str
) -> TrainingStep:
    """A fresh model of the study's sizes and its training step; equal weights whatever the backends."""
    torch.manual_seed(2024)
    settings = ModelSettings(**study.model_settings(model, spec.length), backend=backend, scan_backend=scan_backend)
    built = build_model(model, spec.n_channels, spec.length, spec.n_outputs, settings).to(device)
    step = TrainingStep(built, spec.info.kind, study.config["training"])
    built.train()
    step.begin_epoch(1)
    return step


def as_trained(
    study: Study, spec: DatasetSpec, step: TrainingStep, batch: tuple[Tensor, Tensor]
) -> Callable[[], object]:
    """The step as a cell of the study runs it: on a GPU, with `run.cuda_graph`, as one CUDA graph."""
    if not (batch[0].is_cuda and study.config["run"]["cuda_graph"]):
        return lambda: step(*batch)
    graph = CudaGraphStep(step.model, spec.info.kind, Items(*batch), study.config["training"], MAX_NONFINITE_RUN)
    index = torch.arange(len(batch[0]), device=batch[0].device)
    return lambda: graph(index, 1.0)


def batch_of(study: Study, spec: DatasetSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random inputs (b, c, l) and targets of a dataset's shape; what the numbers are does not change the time."""
    size, generator = study.config["training"]["batch_size"], torch.Generator().manual_seed(2024)
    inputs = torch.rand(size, spec.n_channels, spec.length, generator=generator)
    return inputs.to(device), _targets(spec.info.kind, size, spec.n_outputs, generator).to(device)


def _targets(kind: TaskKind, size: int, n_outputs: int, generator: torch.Generator) -> Tensor:
    if kind == "classification":
        return torch.randint(n_outputs, (size,), generator=generator)
    return torch.rand(size, n_outputs, generator=generator)


def _evaluation(step: TrainingStep, inputs: Tensor) -> Callable[[], object]:
    """Forward pass of one batch in evaluation mode, as validation does it."""
    if inputs.is_cuda:
        inputs = inputs.repeat(GPU_EVALUATION_BATCH // EVALUATION_BATCH, 1, 1)

    def call() -> Tensor:
        step.model.eval()
        with torch.no_grad():
            outputs: Tensor = step.model(inputs)
        step.model.train()
        return outputs

    return call


def _in_plain_torch(step: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        with patch.object(fused, "serves", lambda *_: False):
            return step()

    return call


def _row(timings: dict[str, Timing], spec: DatasetSpec, study: Study, cuda: bool) -> dict[str, Any]:
    row: dict[str, Any] = {name: timing.to_dict() for name, timing in timings.items()}
    step, evaluation = timings[OURS], timings[EVALUATION]
    n_train, n_validation, _ = spec.split_sizes
    at_once = GPU_EVALUATION_BATCH if cuda else EVALUATION_BATCH
    batches = -(-n_train // study.config["training"]["batch_size"]), -(-n_validation // at_once)
    for clock in ("cpu", "wall"):
        seconds = (batches[0] * getattr(step, clock) + batches[1] * getattr(evaluation, clock)) / 1e3
        row[f"epoch_{clock}_s"] = round(seconds, 4)
    row["ratio"] = round(step.ratio_to(timings[BASELINE]), 3) if BASELINE in timings else None
    row["circuit_share"] = round(1 / timings[CIRCUITS].ratio_to(step), 4) if CIRCUITS in timings else None
    return row


def products_ms(step: Callable[[], object]) -> float:
    """CPU time (ms) of the matrix products of one step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    return sum(event.self_cpu_time_total for event in profile.key_averages() if event.key in PRODUCTS) / 1e3


def calls_alone(step: Callable[[], object], module: ModuleType, name: str) -> Callable[[], None] | None:
    """A call that runs one function of a module as a training step does, with gradients; None if no step calls it."""
    calls: list[tuple[Any, ...]] = []
    function = getattr(module, name)

    def recording(*arguments: Any, **options: Any) -> Any:
        calls.append(tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in arguments))
        return function(*arguments, **options)

    with patch.object(module, name, recording):
        step()
    leaves = [[a.requires_grad_() for a in arguments if isinstance(a, Tensor)] for arguments in calls]

    def run() -> None:
        for arguments, tensors in zip(calls, leaves, strict=True):
            result = function(*arguments)
            result = result[0] if isinstance(result, tuple) else result
            torch.autograd.grad(result, tensors, grad_outputs=result.detach(), allow_unused=True)

    return run if calls else None
