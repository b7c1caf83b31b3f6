"""Run a kernel in Triton's interpreter beside the plain version; print each result's largest deviation as JSON.

`interpreted.py circuit 6 float32`, `interpreted.py scan float64`. Deviations are relative
to the largest number of a result, or absolute where that is below 1.
"""

import json
import sys

import torch

from qablate.quantum import Circuit, Gate, ansatz, embedding, gpu, reference, resolve_backend
from qablate.ssm import gpu as gpu_scan
from qablate.ssm.scan import reference_scan


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def compared(names, run, arguments, plain, dtype) -> dict[str, float]:
    """Values and gradients of `run` in `dtype` against `plain` in float64."""
    results = []
    for function, kind in ((run, dtype), (plain, torch.float64)):
        leaves = [argument.to(kind, copy=True).requires_grad_() for argument in arguments]
        outputs = function(*leaves)
        gradients = torch.autograd.grad(sum((i + output).sin().sum() for i, output in enumerate(outputs)), leaves)
        results.append([tensor.detach().double() for tensor in (*outputs, *gradients)])
    return {name: deviation(got, expected) for name, got, expected in zip(names, *results, strict=True)}


def circuit(n: int, dtype: torch.dtype) -> dict[str, float]:
    """All kinds of gates, columns read twice and never, a full and a ragged program."""
    mixed = (Gate("RZ", (0,), 0), Gate("RX", (n - 1,), 1), Gate("RY", (0,), 2), Gate("RX", (0,), 5 * n + n + 1))
    gates = (*embedding(n), *(ansatz(n, 1, first=n) if n > 1 else ()), *mixed)
    whole = Circuit(n, gates)
    batch = gpu.INTERPRETED_BLOCK + 5
    torch.manual_seed(n)
    angles = 3 * torch.randn(batch, whole.n_angles, dtype=torch.float64).to(dtype)
    initial = torch.randn(batch, 2**n, 2, dtype=torch.float64).to(dtype)

    def results(simulate):
        def run(a, i):
            psi = torch.view_as_complex(i)
            states, evolved = simulate(whole, a, None, False), simulate(whole, a, psi, False)
            measured = simulate(whole, a, None, True), simulate(Circuit(n, ()), a[:, :0], psi, True)
            return *measured, torch.view_as_real(states), torch.view_as_real(evolved)
        return run

    assert resolve_backend("triton", torch.device("cpu")) == "triton"
    assert gpu.simulate(whole, angles[:0], None, True).shape == (0, 3 * n)
    names = ("expectations", "measured", "states", "evolved", "gradient of angles", "gradient of initial")
    return compared(names, results(gpu.simulate), (angles, initial), results(reference.simulate), dtype)


def scan(dtype: torch.dtype) -> dict[str, float]:
    b, length, e, n = 2, 37, 11, 5
    torch.manual_seed(0)
    shapes = [(b, length, e), (b, length, e), (e, n), (b, length, n), (b, length, n), (b, e, n)]
    arguments = [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]
    arguments[1], arguments[2] = arguments[1].abs(), -arguments[2].abs()
    names = ("y", "final", "inputs", "step", "A", "B", "C", "initial")
    return compared(names, gpu_scan.scan, arguments, reference_scan, dtype)


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *rest = sys.argv[1:]
    with torch.enable_grad():
        dtype = getattr(torch, rest[-1])
        found = circuit(int(rest[0]), dtype) if what == "circuit" else scan(dtype)
    print(json.dumps(found))
