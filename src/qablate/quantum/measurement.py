"""Pauli expectations of batches of states, with a backward pass of their own.

Shapes: B batch, n qubits. Inside this layer states are "batch last": real and imaginary parts (2, 2**n, B),
so that every elementary operation runs over contiguous memory.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qablate.quantum.circuit import qubits_of_states


def measure(states: Tensor) -> Tensor:
    """<psi|P|psi> of states (..., 2**n) of any norm, in plain torch: (..., 3 n), blocks X, Y, Z, wires ascending.

    Raises as `check_states` does.
    """
    n_qubits = check_states(states)
    batch = states.shape[:-1]
    flat = states.reshape(math.prod(batch), 2**n_qubits)
    expectations: Tensor = PauliExpectations.apply(batch_last(flat), n_qubits)
    return expectations.reshape(*batch, 3 * n_qubits)


def check_states(states: Tensor) -> int:
    """n of states (..., 2**n); ValueError if they are not complex or their last axis is no power of two."""
    n_qubits = qubits_of_states(states)
    if not states.is_complex():
        raise ValueError(f"states must be complex64 or complex128, not {states.dtype}")
    return n_qubits


def batch_last(states: Tensor) -> Tensor:
    """Complex states (B, 2**n) as real and imaginary parts (2, 2**n, B)."""
    return torch.stack((states.real.t(), states.imag.t()))


def batch_first(parts: Tensor) -> Tensor:
    """Real and imaginary parts (2, 2**n, B) as complex states (B, 2**n), a transposed view."""
    return torch.complex(*parts.unbind(0)).t()


class PauliExpectations(torch.autograd.Function):
    """Parts (2, 2**n, B) -> expectations (B, 3 n); the backward pass needs only the parts themselves."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, n_qubits: int) -> Tensor:
        """Sum the products of amplitudes that differ in one bit (X, Y) and the signed probabilities (Z)."""
        ctx.save_for_backward(parts)
        ctx.n_qubits = n_qubits
        n_batch = parts.shape[-1]
        out = parts.new_empty(3 * n_qubits, n_batch)
        for q in range(n_qubits):
            split = parts.view(2, 2**q, 2, 2 ** (n_qubits - q - 1), n_batch)
            (re0, re1), (im0, im1) = split[0].unbind(1), split[1].unbind(1)
            out[q] = 2 * (re0 * re1).addcmul_(im0, im1).sum((0, 1))
            out[n_qubits + q] = 2 * (re0 * im1).addcmul_(im0, re1, value=-1).sum((0, 1))
        probabilities = parts[0].square().addcmul_(parts[1], parts[1])  # (2**n, B)
        out[2 * n_qubits :] = z_signs(n_qubits, parts.dtype, parts.device) @ probabilities
        return out.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient 2 sum_k w_k P_k psi of the weighted sum of expectations: (2, 2**n, B)."""
        (parts,) = ctx.saved_tensors
        n, n_batch = ctx.n_qubits, parts.shape[-1]
        twice = 2 * grad.t()                                      # (3 n, B)
        out = parts * (z_signs(n, parts.dtype, parts.device).t() @ twice[2 * n :])
        for q in range(n):
            shape = (2, 2**q, 2, 2 ** (n - q - 1), n_batch)
            psi, acc = parts.view(shape), out.view(shape)
            acc[:, :, 0].addcmul_(psi[:, :, 1], twice[q])
            acc[:, :, 1].addcmul_(psi[:, :, 0], twice[q])
            acc[0, :, 0].addcmul_(psi[1, :, 1], twice[n + q])
            acc[1, :, 0].addcmul_(psi[0, :, 1], twice[n + q], value=-1)
            acc[0, :, 1].addcmul_(psi[1, :, 0], twice[n + q], value=-1)
            acc[1, :, 1].addcmul_(psi[0, :, 0], twice[n + q])
        return out, None


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def z_signs(n_qubits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Eigenvalue of Z on wire q for every basis state: (n, 2**n) of +1 and -1."""
    index = torch.arange(2**n_qubits)
    signs = torch.stack([1 - 2 * ((index >> (n_qubits - 1 - q)) & 1) for q in range(n_qubits)])
    return signs.to(device=device, dtype=dtype)
