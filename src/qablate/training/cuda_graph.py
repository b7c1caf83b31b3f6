"""The training step as one CUDA graph: no host synchronisation inside an epoch, sums read once at its end.

The step is a function of buffers on the device: the indices of a batch, the learning rate, the weight of the batch
in the epoch's loss. `CudaGraphStep` runs it a few times with every update masked (so that nothing changes), captures it
for each batch size, and replays it. On a CPU the same code runs without capture.

A loss that is not finite, or MAX_NONFINITE_RUN gradients in a row that are not, halt the epoch on the device: all
later batches are neither counted nor learned from, and `read` tells. A single such gradient skips its update only.

Dropout: a graph draws from the CUDA generator's state at replay, so reseeding before an epoch and restoring a saved
state act as they do without a graph: two runs of the same graphs are equal. On an H100 they equalled runs
without graphs to the bit, but for 1c and 2a, whose complex parameters torch updates by other operations in a graph
(`benchmarks/gpu_day.py graph`). The tests run the logic on a CPU, without capture.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qablate.catalog import TaskKind
from qablate.training.interrupts import Interrupts
from qablate.training.loop import MAX_NONFINITE_RUN, Items, Training, adamw, generator_states, restore_generators

WARM_UP_STEPS = 3


class Sums(NamedTuple):
    """What the batches since the last `read` add up to.

    `loss` is the whole epoch's so far (one running sum, so that a resumed epoch ends with the same bits), weighted by
    the weights given with the batches; `skipped` counts updates left out, `skipped_run` those
    since the last one taken; `halted` says whether the epoch ended before its last batch.
    """

    loss: float
    correct: int
    batches: int
    skipped: int
    skipped_run: int
    halted: bool


class CudaGraphStep:
    """Forward, backward, clip and update of batches of resident items; `read` is the only synchronisation."""

    def __init__(
        self, model: nn.Module, kind: TaskKind, items: Items, training: dict[str, Any], max_nonfinite_run: int
    ) -> None:
        self.model, self.kind, self.items, self.max_nonfinite_run = model, kind, items, max_nonfinite_run
        self.device = items.inputs.device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.clip_norm: float = training["clip_norm"]
        self.rate = torch.tensor(float(training["learning_rate"]), device=self.device)
        self.optimizers = adamw(self.parameters, training["learning_rate"], training["weight_decay"])
        self._own_groups()
        self.weight = torch.zeros((), dtype=torch.float64, device=self.device)
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        # correct, batches, skipped, skipped_run, halted
        self.counts = torch.zeros(5, dtype=torch.int64, device=self.device)
        self._replays: dict[int, tuple[Tensor, Callable[[], None]]] = {}

    def _own_groups(self) -> None:
        """The learning rate as a tensor that all replays read; step counters on the device."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["capturable"] = self.rate, self.device.type == "cuda"

    def begin_epoch(self, rate: float, skipped_run: int = 0, loss: float = 0.0) -> None:
        """Set the learning rate and forget all sums but those of earlier batches, `skipped_run` and `loss`."""
        self.rate.fill_(rate)
        self.loss.fill_(loss)
        self.counts.zero_()
        self.counts[3] = skipped_run

    def __call__(self, chosen: Tensor, weight: float) -> None:
        """Train on the items `chosen` (batch,); their mean loss counts `weight` in the sum."""
        if len(chosen) not in self._replays:
            self._replays[len(chosen)] = self._prepare(len(chosen))
        index, replay = self._replays[len(chosen)]
        self.weight.fill_(weight)
        index.copy_(chosen)
        replay()

    def read(self) -> Sums:
        """Wait for the device; return the sums and forget the counts (loss, run of skipped updates and a halt stay)."""
        loss, (correct, batches, skipped, skipped_run, halted) = self.loss.item(), self.counts.tolist()
        self.counts[:3] = 0
        return Sums(loss, correct, batches, skipped, skipped_run, bool(halted))

    def recapture(self) -> None:
        """Forget all graphs, since they hold old addresses; to be called when optimiser states were loaded."""
        self._own_groups()
        self._replays.clear()

    def _prepare(self, size: int) -> tuple[Tensor, Callable[[], None]]:
        """The index buffer of a batch size and what trains on it: a graph on a GPU, the plain step elsewhere."""
        index = torch.zeros(size, dtype=torch.long, device=self.device)
        if self.device.type != "cuda":
            return index, lambda: self._step(index)
        kept = self.loss.clone(), self.counts.clone(), generator_states()
        self.counts[4] = 1  # halted: the steps below change no weight, moment or sum
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                self._step(index)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(index)
        self.loss.copy_(kept[0])
        self.counts.copy_(kept[1])
        restore_generators(kept[2])
        return index, graph.replay

    def _step(self, index: Tensor) -> None:
        """One batch; only operations on the device, none that the host would have to wait for."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        targets = self.items.targets.index_select(0, index)
        outputs = self.model(self.items.inputs.index_select(0, index))
        loss = F.mse_loss(outputs, targets) if self.kind == "regression" else F.cross_entropy(outputs, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.counts[4].bitwise_or_((~torch.isfinite(loss.detach())).long())
        counted = self.counts[4] == 0
        taken = counted & torch.isfinite(norm)
        for optimizer in self.optimizers:
            _masked_update(optimizer, taken)
        self._count(loss.detach(), outputs.detach(), targets, counted, taken)

    def _count(self, loss: Tensor, outputs: Tensor, targets: Tensor, counted: Tensor, taken: Tensor) -> None:
        """Add the batch to the sums; a batch after a halt counts nothing."""
        correct = (outputs.argmax(dim=1) == targets).sum() if self.kind != "regression" else torch.zeros_like(taken)
        self.loss.add_(torch.where(counted, loss.double() * self.weight, 0.0))
        skipped = counted & ~taken
        self.counts[:3].add_(torch.stack((torch.where(counted, correct, 0), counted, skipped)))
        self.counts[3].copy_(torch.where(taken, 0, self.counts[3] + skipped.long()))
        self.counts[4].bitwise_or_((self.counts[3] >= self.max_nonfinite_run).long())


def _masked_update(optimizer: torch.optim.AdamW, taken: Tensor) -> None:
    """One update where `taken` (a boolean on the device), none elsewhere: weights, moments and counters stay."""
    if optimizer.defaults["fused"]:
        optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]  # read by torch's fused kernels
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.step()
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for p in parameters:  # moments must exist before they can be kept
        if not optimizer.state[p]:
            optimizer.state[p] = {"step": torch.zeros((), device=p.device), "exp_avg": torch.zeros_like(p),
                                  "exp_avg_sq": torch.zeros_like(p)}
    tensors = [t for p in parameters for t in (p.data, *optimizer.state[p].values())]
    before = [tensor.clone() for tensor in tensors]
    optimizer.step()
    for tensor, old in zip(tensors, before, strict=True):
        tensor.copy_(torch.where(taken.to(tensor.device), tensor, old))


class CudaGraphTraining(Training):
    """A cell in training whose whole step is one CUDA graph; same recipe, same checkpoints as `Training`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.graph = CudaGraphStep(self.model, self.kind, self.data.train, self.training, MAX_NONFINITE_RUN)
        self.step.optimizers = self.graph.optimizers  # what checkpoints hold is what the graph updates

    def _epoch(self, check_interrupts: Callable[[], None]) -> None:
        progress, batches = self.progress, self._batches()
        rate = self.step.learning_rate(progress.epoch)
        self.graph.begin_epoch(rate, progress.nonfinite_grad_run, progress.loss_sum)
        already, began = progress.epoch_seconds, time.perf_counter()
        for chosen in batches[progress.batch :]:
            self.graph(chosen, self.batch_weight(len(chosen), len(batches)))
            progress.epoch_seconds = already + time.perf_counter() - began
            check_interrupts()
        self._collect()
        progress.epoch_seconds = already + time.perf_counter() - began

    def _save_or_stop(self, interrupts: Interrupts, save: Callable[[], None]) -> None:
        def collect_and_save() -> None:
            self._collect()
            if self.progress.stop_reason is None:  # or the epoch would be saved as ended before its row is there
                save()

        super()._save_or_stop(interrupts, collect_and_save)

    def _collect(self) -> None:
        """Wait for the device and add what its batches came to."""
        progress, sums = self.progress, self.graph.read()
        progress.loss_sum = sums.loss
        progress.correct += sums.correct
        progress.batch += sums.batches
        progress.nonfinite_grad_steps += sums.skipped
        progress.nonfinite_grad_run = sums.skipped_run
        if sums.halted and progress.stop_reason is None:
            self._diverge()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; the graphs are captured anew."""
        super().restore(state)
        self.graph.recapture()
