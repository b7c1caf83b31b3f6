"""One optimiser step, as published: AdamW, global gradient norm clipped, one parameter group."""

import math
from inspect import unwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qablate.catalog import TaskKind


class StepOutcome(NamedTuple):
    """Loss of the batch before the step, correct predictions (0 for regression), and whether the step was taken."""

    loss: float
    correct: int
    taken: bool


class TrainingStep:
    """Forward, backward, clip and update of one batch; skips the update when a gradient is not finite."""

    def __init__(self, model: nn.Module, kind: TaskKind, training: dict[str, Any]) -> None:
        self.model, self.kind = model, kind
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.clip_norm: float = training["clip_norm"]
        self.base_rate: float = training["learning_rate"]
        self.max_epochs: int = training["max_epochs"]
        self.optimizers = adamw(self.parameters, self.base_rate, training["weight_decay"])

    def learning_rate(self, epoch: int) -> float:
        """Cosine from the base rate to 0 over `max_epochs`; `epoch` counts from 1."""
        return 0.5 * self.base_rate * (1 + math.cos(math.pi * (epoch - 1) / self.max_epochs))

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch's learning rate: the schedule is a function of the epoch and needs no state."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(epoch)

    def __call__(self, inputs: Tensor, targets: Tensor) -> StepOutcome:
        """Train on one batch: inputs (b, c, l), targets (b, o) or labels (b,)."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        outputs = self.model(inputs)
        if self.kind == "regression":
            loss, correct = F.mse_loss(outputs, targets), 0
        else:
            loss = F.cross_entropy(outputs, targets)
            correct = int((outputs.detach().argmax(dim=1) == targets).sum())
        value = loss.item()
        if not math.isfinite(value):
            return StepOutcome(value, correct, taken=False)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        taken = math.isfinite(norm.item())
        if taken:
            for optimizer in self.optimizers:
                optimizer.step()
        return StepOutcome(value, correct, taken)


class EagerAdamW(torch.optim.AdamW):
    """AdamW without its guards against torch.compile, which import the compiler: a third of a process's start."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)


def adamw(parameters: list[nn.Parameter], rate: float, weight_decay: float) -> list[torch.optim.AdamW]:
    """Return AdamW over all parameters as at most two optimisers, real and complex.

    The update is element-wise, so the cut changes no number; torch's fused form, four times faster on these many
    small tensors, takes real ones only.
    """
    real = [parameter for parameter in parameters if not parameter.is_complex()]
    other = [parameter for parameter in parameters if parameter.is_complex()]
    settings: dict[str, Any] = {"lr": rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
    optimizers: list[torch.optim.AdamW] = [EagerAdamW(real, fused=True, **settings)]
    return [*optimizers, EagerAdamW(other, **settings)] if other else optimizers



def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved state; ValueError for another recipe or other shapes, which torch's fused kernels do not check."""
    recipe = ("betas", "eps", "weight_decay")
    before = [[group[key] for key in recipe] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    if [[group[key] for key in recipe] for group in optimizer.param_groups] != before:
        raise ValueError(f"the optimiser was saved with other {', '.join(recipe)}")
    for parameter, state in optimizer.state.items():
        moments = [state["exp_avg"], state["exp_avg_sq"]]
        if state["step"].numel() != 1 or any(
            moment.shape != parameter.shape or moment.dtype != parameter.dtype for moment in moments
        ):
            raise ValueError("the optimiser's state has other shapes than the weights")
