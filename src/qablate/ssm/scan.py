"""The selective scan: a diagonal linear recurrence whose decay, input and read-out depend on the time step.

    h_t = exp(step_t * A) * h_{t-1} + inputs_t * B_t        y_t = sum_n h_t C_t

Shapes: b batch, l length, e inner width, n state size.

Source of the recurrence: Gu and Dao, "Mamba", arXiv:2312.00752, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from qablate import selfcheck
from qablate.errors import QablateError

BACKENDS = selfcheck.Backends(
    "selective_scan",
    {
        "reference": __name__,  # the definition
        "torch": __name__,  # without tensors of size (b, l, e, n)
        "numba": "qablate.ssm.compiled",  # CPU
        "triton": "qablate.ssm.gpu",
    },
    fastest={"cpu": "numba", "cuda": "triton"},
)
SCAN_BACKENDS = ("auto", *BACKENDS.modules)

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@selfcheck.untraced
def selective_scan(
    inputs: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    initial: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over time; differentiable in every tensor argument and through both results.

    Args:
        inputs: (b, l, e) what enters the state; multiply by `step` first where the model does so.
        step: (b, l, e) step size, positive.
        A: (e, n) decay rates, negative; a decay shared by all channels is expanded by the caller.
        B: (b, l, n) input weights of the states.
        C: (b, l, n) read-out weights of the states.
        initial: (b, e, n) state before the first step; None is zero.
        backend: one of `SCAN_BACKENDS`.

    Returns:
        y (b, l, e) and the state after the last step (b, e, n). The skip term is left to the caller.

    Raises:
        QablateError: on shapes that do not fit, mixed dtypes or devices, an unknown backend or one that cannot serve.
    """
    _check(inputs, step, A, B, C, initial)
    start = inputs.new_zeros(inputs.shape[0], *A.shape) if initial is None else initial  # (b, e, n)
    name = BACKENDS.resolve(backend, inputs.device, inputs.dtype)
    run: Scan = reference_scan if name == "reference" else BACKENDS.module(name).scan
    return run(inputs, step, A, B, C, start)


def scan_name(backend: str, device: torch.device, n_states: int) -> str:
    """Name of what computes float32 numbers of so many states on a device; those of two kernels differ by rounding."""
    found = BACKENDS.resolve(backend, device)
    return found if n_states <= getattr(BACKENDS.module(found), "MAX_STATES", n_states) else "torch"


def _check(inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor | None) -> None:
    """Reject what would otherwise broadcast or promote without a word."""
    if inputs.dim() != 3 or A.dim() != 2:
        shapes = f"{tuple(inputs.shape)} and {tuple(A.shape)}"
        raise QablateError(f"selective_scan: inputs must be (b, l, e) and A (e, n), got {shapes}")
    b, length, e = inputs.shape
    n = A.shape[1]
    expected = {
        "step": (step, (b, length, e)),
        "A": (A, (e, n)),
        "B": (B, (b, length, n)),
        "C": (C, (b, length, n)),
        "initial": (initial, (b, e, n)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise QablateError(f"selective_scan: {name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != inputs.dtype or not tensor.dtype.is_floating_point:
            raise QablateError(f"selective_scan: {name} is {tensor.dtype}, inputs are {inputs.dtype}")
        if tensor.device != inputs.device:
            raise QablateError(f"selective_scan: {name} is on {tensor.device}, inputs are on {inputs.device}")


def reference_scan(
    inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition: decay and drive of all steps at once, then one step after the other.

    Arguments and results as in `selective_scan`.
    """
    decay = torch.exp(step[..., None] * A)  # (b, l, e, n)
    drive = inputs[..., None] * B[:, :, None]  # (b, l, e, n)
    outputs = []
    for decay_t, drive_t, C_t in zip(decay.unbind(1), drive.unbind(1), C.unbind(1), strict=True):
        state = decay_t * state + drive_t  # (b, e, n)
        outputs.append((state * C_t[:, None]).sum(-1))  # (b, e)
    return _stack(outputs, inputs), state


def scan(inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The same numbers, decay and drive built step by step while they are in the processor's cache.

    Arguments and results as in `selective_scan`.
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


def require_agreement(fast: Scan, e: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise SelfCheckError unless `fast` agrees with the definition, run on the CPU, in values and gradients."""
    b, n = 2, 3
    shapes = [(b, length, e), (b, length, e), (e, n), (b, length, n), (b, length, n), (b, e, n)]
    arguments = [
        torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * (0.7 + i)).reshape(shape).to(dtype)
        for i, shape in enumerate(shapes)
    ]
    arguments[1], arguments[2] = arguments[1].abs(), -arguments[2].abs()
    results = []
    for function, place in ((fast, device), (reference_scan, torch.device("cpu"))):
        leaves = [argument.to(place, copy=True).requires_grad_() for argument in arguments]
        y, final = function(*leaves)
        gradients = torch.autograd.grad((y.sin().sum(), final.cos().sum()), leaves)
        results.append([tensor.cpu() for tensor in (y, final, *gradients)])
    selfcheck.require_agreement(("y", "final", "inputs", "step", "A", "B", "C", "initial"), *results)
