"""The training loop over a captured step: nothing is read from the device between two batches.

Sums are collected at the end of an epoch, and before a checkpoint. On a CPU the same code runs uncaptured, which is
how it is tested; no GPU has run it yet, so it is asked for by `run.cuda_graph` and never chosen by itself.
"""

import time
from collections.abc import Callable
from typing import Any

from qablate.training.graph import GraphStep
from qablate.training.interrupts import Interrupts
from qablate.training.loop import MAX_NONFINITE_RUN, Training


class GraphedTraining(Training):
    """A cell in training whose whole step is one CUDA graph; same recipe, same checkpoints as `Training`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.graph = GraphStep(self.model, self.kind, self.data.train, self.training, MAX_NONFINITE_RUN)
        self.step.optimizers = self.graph.optimizers  # what checkpoints hold is what the graph updates

    def _epoch(self, between: Callable[[], None]) -> None:
        progress, batches = self.progress, self._batches()
        rate = self.step.learning_rate(progress.epoch)
        self.graph.begin_epoch(rate, progress.nonfinite_grad_run, progress.loss_sum)
        already, began = progress.epoch_seconds, time.perf_counter()
        for chosen in batches[progress.batch :]:
            self.graph(chosen, self.batch_weight(len(chosen), len(batches)))
            progress.epoch_seconds = already + time.perf_counter() - began
            between()
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
