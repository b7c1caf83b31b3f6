"""The selective scan as two GPU kernels in Triton: forward, and a backward pass that recomputes the states.

A program (one warp) runs CHANNELS channels of one sample through time. The forward pass keeps the states in front
of every CHUNK steps and nothing else; the backward pass recomputes a chunk's states into a buffer that is reused
by all chunks, so it stays in the GPU's cache. Gradients of B and C are summed over the channels of a program
here and over programs by torch, in a fixed order. Triton's interpreter runs the same kernels on a CPU, for tests.
What has run them: see `qablate.quantum.gpu`.

Shapes: b batch, l length, e inner width, n state size; blocks (CHANNELS, N), N the next power of two from n.
"""

# ruff: noqa: SIM102 - Triton decides constant conditions while it compiles, so they stand alone

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate import selfcheck
from qablate.ssm.scan import require_agreement
from qablate.ssm.scan import scan as plain_scan

DEVICE = "cpu" if triton.knobs.runtime.interpret else "cuda"
CHUNK = 32
CHANNELS = 8
STAGES = tl.constexpr(3)
"""Rows in flight: the next two steps' are copied to shared memory while one is computed."""
MAX_STATES = 64
"""Largest state size that a warp holds in registers without spilling."""


@triton.jit(do_not_specialize=["length", "e", "n"])
def forward_kernel(
    inputs: tl.tensor, step: tl.tensor, A: tl.tensor, B: tl.tensor, C: tl.tensor, initial: tl.tensor, y: tl.tensor,
    final: tl.tensor, saved: tl.tensor, length: tl.tensor, e: tl.tensor, n: tl.tensor,
    CHANNELS: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr, KEEP: tl.constexpr,
) -> None:
    """Fill y (b, l, e), final (b, e, n) and, if KEEP, saved (b, chunks, e, n); grid (programs over e, b)."""
    sample = tl.program_id(1).to(tl.int64)
    channel = (tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS))[:, None]
    state = tl.arange(0, N)[None, :]
    ok = (channel < e) & (state < n)
    place = channel * n + state
    rates = tl.load(A + place, mask=ok, other=0.0)
    h = tl.load(initial + sample * e * n + place, mask=ok, other=0.0)
    for t in tl.range(length, num_stages=STAGES):
        row = sample * length + t
        if KEEP:
            if t % CHUNK == 0:
                block = sample * ((length + CHUNK - 1) // CHUNK) + t // CHUNK
                tl.store(saved + block * e * n + place, h, mask=ok)
        size = tl.load(step + row * e + channel, mask=channel < e, other=0.0)
        drive = tl.load(inputs + row * e + channel, mask=channel < e, other=0.0)
        weight = tl.load(B + row * n + state, mask=state < n, other=0.0)
        readout = tl.load(C + row * n + state, mask=state < n, other=0.0)
        h = tl.exp(size * rates) * h + drive * weight
        out = tl.sum(h * readout, 1, keep_dims=True)
        tl.store(y + row * e + channel, out, mask=channel < e)
    tl.store(final + sample * e * n + place, h, mask=ok)


@triton.jit(do_not_specialize=["length", "e", "n"])
def backward_kernel(
    inputs: tl.tensor, step: tl.tensor, A: tl.tensor, B: tl.tensor, C: tl.tensor, saved: tl.tensor,
    grad_y: tl.tensor, grad_final: tl.tensor, grad_inputs: tl.tensor, grad_step: tl.tensor, grad_A: tl.tensor,
    grad_B: tl.tensor, grad_C: tl.tensor, grad_initial: tl.tensor, buffer: tl.tensor, length: tl.tensor,
    e: tl.tensor, n: tl.tensor, CHANNELS: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr,
) -> None:
    """Gradients of all arguments; of A for each sample (b, e, n), of B and C for each program (p, b, l, n).

    `buffer` (b, CHUNK, e, n) takes the states in front of the steps of one chunk.
    """
    sample, n_samples = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    channel = (tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS))[:, None]
    state = tl.arange(0, N)[None, :]
    ok = (channel < e) & (state < n)
    place = channel * n + state
    line = tl.arange(0, N)
    rates = tl.load(A + place, mask=ok, other=0.0)
    adjoint = tl.load(grad_final + sample * e * n + place, mask=ok, other=0.0)
    rate_grad = tl.zeros_like(rates)
    chunks = (length + CHUNK - 1) // CHUNK
    for back in range(chunks):
        chunk = chunks - 1 - back
        start = chunk * CHUNK
        steps = tl.minimum(CHUNK, length - start)
        h = tl.load(saved + (sample * chunks + chunk) * e * n + place, mask=ok, other=0.0)
        for t in tl.range(steps, num_stages=STAGES):
            row = sample * length + start + t
            tl.store(buffer + (sample * CHUNK + t) * e * n + place, h, mask=ok)
            size = tl.load(step + row * e + channel, mask=channel < e, other=0.0)
            drive = tl.load(inputs + row * e + channel, mask=channel < e, other=0.0)
            weight = tl.load(B + row * n + state, mask=state < n, other=0.0)
            h = tl.exp(size * rates) * h + drive * weight
        tl.debug_barrier()  # the states that one thread wrote may be read by another
        for k in tl.range(steps, num_stages=STAGES):
            t = steps - 1 - k
            row = sample * length + start + t
            before = tl.load(buffer + (sample * CHUNK + t) * e * n + place, mask=ok, other=0.0)
            size = tl.load(step + row * e + channel, mask=channel < e, other=0.0)
            drive = tl.load(inputs + row * e + channel, mask=channel < e, other=0.0)
            out_grad = tl.load(grad_y + row * e + channel, mask=channel < e, other=0.0)
            weight = tl.load(B + row * n + state, mask=state < n, other=0.0)
            readout = tl.load(C + row * n + state, mask=state < n, other=0.0)
            decay = tl.exp(size * rates)
            after = decay * before + drive * weight
            adjoint += out_grad * readout
            part = ((tl.program_id(0) * n_samples + sample) * length + start + t) * n + line
            tl.store(grad_C + part, tl.sum(out_grad * after, 0), mask=line < n)
            tl.store(grad_B + part, tl.sum(adjoint * drive, 0), mask=line < n)
            drive_grad = tl.sum(adjoint * weight, 1, keep_dims=True)
            adjoint = adjoint * decay
            exponent_grad = adjoint * before
            size_grad = tl.sum(exponent_grad * rates, 1, keep_dims=True)
            rate_grad += exponent_grad * size
            tl.store(grad_inputs + row * e + channel, drive_grad, mask=channel < e)
            tl.store(grad_step + row * e + channel, size_grad, mask=channel < e)
        tl.debug_barrier()  # all have read before the next chunk is written
    tl.store(grad_A + sample * e * n + place, rate_grad, mask=ok)
    tl.store(grad_initial + sample * e * n + place, adjoint, mask=ok)


class _Scan(torch.autograd.Function):
    """The kernels as one differentiable operation."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments inputs, step, A, B, C, initial; results y and the final state."""
        inputs, step, A, B, C, initial = (tensor.contiguous() for tensor in tensors)
        (b, length, e), n = inputs.shape, A.shape[1]
        keep = any(ctx.needs_input_grad)
        saved = inputs.new_empty(b if keep else 0, -(-length // CHUNK), e, n)
        y, final = torch.empty_like(inputs), torch.empty_like(initial)
        _launch(forward_kernel, (inputs, step, A, B, C, initial, y, final, saved), KEEP=keep)
        ctx.save_for_backward(inputs, step, A, B, C, saved)
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor, ...]:
        """Gradients of inputs, step, A, B, C, initial."""
        inputs, step, A, B, C, saved = ctx.saved_tensors
        (b, _, e), n = inputs.shape, A.shape[1]
        grad_inputs, grad_step = torch.empty_like(inputs), torch.empty_like(step)
        grad_A, grad_initial = A.new_empty(b, e, n), A.new_empty(b, e, n)
        grad_B, grad_C = B.new_empty(-(-e // CHANNELS), *B.shape), C.new_empty(-(-e // CHANNELS), *C.shape)
        gradients = (grad_inputs, grad_step, grad_A, grad_B, grad_C, grad_initial)
        buffer = inputs.new_empty(b, CHUNK, e, n)
        outer = (grad_y.contiguous(), grad_final.contiguous())
        _launch(backward_kernel, (inputs, step, A, B, C, saved, *outer, *gradients, buffer))
        return grad_inputs, grad_step, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0), grad_initial


def _launch(kernel: Any, tensors: tuple[Tensor, ...], **options: bool) -> None:
    """Start a kernel on the device and current stream of its tensors: one warp for each sample and CHANNELS."""
    (b, length, e), n = tensors[0].shape, tensors[2].shape[1]
    if b and e and n:
        with torch.cuda.device_of(tensors[0]):
            kernel[(triton.cdiv(e, CHANNELS), b)](
                *tensors, length, e, n, CHANNELS=CHANNELS, N=triton.next_power_of_2(n), CHUNK=CHUNK,
                num_warps=1, **options,
            )  # fmt: skip


def scan(inputs: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """See `qablate.ssm.selective_scan`; float32 or float64. More than MAX_STATES states run in plain torch."""
    if A.shape[1] > MAX_STATES:
        selfcheck.say_once(f"scans of {A.shape[1]} states: plain torch serves instead of triton, "
                           f"whose kernels hold at most {MAX_STATES} states")
        return plain_scan(inputs, step, A, B, C, initial)
    result: tuple[Tensor, Tensor] = _Scan.apply(inputs, step, A, B, C, initial)
    return result


def check(dtype: torch.dtype, device: torch.device) -> None:
    """Compare values and gradients with the definition: two chunks, two programs, both ragged."""
    require_agreement(scan, CHANNELS + 3, CHUNK + 3, dtype, device)
