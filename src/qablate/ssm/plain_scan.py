"""The selective scan in plain torch: its definition, and the same without tensors of size (b, l, e, n).

Shapes: b batch, l length, e inner width, n state size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reference_scan(
    inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition: decay and drive of all steps at once, then one step after the other.

    Arguments and results as in `qablate.ssm.selective_scan`.
    """
    decay = torch.exp(step[..., None] * A)  # (b, l, e, n)
    drive = inputs[..., None] * B[:, :, None]  # (b, l, e, n)
    outputs = []
    for decay_t, drive_t, C_t in zip(decay.unbind(1), drive.unbind(1), C.unbind(1), strict=True):
        state = decay_t * state + drive_t  # (b, e, n)
        outputs.append((state * C_t[:, None]).sum(-1))  # (b, e)
    return _stack(outputs, inputs), state


def torch_scan(
    inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same numbers, decay and drive built step by step while they are in the processor's cache.

    Arguments and results as in `qablate.ssm.selective_scan`.
    """
    outputs = []
    times = zip(inputs.unbind(1), step.unbind(1), B.unbind(1), C.unbind(1), strict=True)
    for inputs_t, step_t, B_t, C_t in times:
        decay_t = torch.exp(step_t[..., None] * A)  # (b, e, n)
        state = torch.addcmul(decay_t * state, inputs_t[..., None], B_t[:, None])  # (b, e, n)
        outputs.append((state @ C_t[..., None])[..., 0])  # (b, e)
    return _stack(outputs, inputs), state


def _stack(outputs: list[Tensor], inputs: Tensor) -> Tensor:
    """The steps along the time axis; a scan of no steps has an empty one."""
    return torch.stack(outputs, 1) if outputs else torch.empty_like(inputs)  # (b, l, e)
