"""How near the compiled kernels come to what the machine can do: their arithmetic and traffic, and its ceilings.

Counted are the operations that the kernels carry out (a fused multiply-add is two), not an ideal algorithm's, and the
bytes that have to cross memory at least once. The ceilings are measured beside the kernels: a matrix product of torch
(1024 x 1024, float32) for arithmetic, a sum of two large vectors for memory.

Shapes: B angle sets, n qubits; b batch, l length, e inner width, n state size.
"""

from collections.abc import Callable
from typing import Any

import torch

from qablate.bench import circuits, scans
from qablate.bench.timing import time_side_by_side
from qablate.quantum import Circuit, Program, lower
from qablate.quantum.program import CRX

CIRCUIT_CASES = ((6, 512), (6, 3200), (8, 800), (10, 200))
SCAN_LENGTHS = (100, 1000)
GEMM_SIZE, VECTOR_SIZE = 1024, 16_000_000
COS_SIN_FLOP, EXP_FLOP = 35, 20
SU2_FLOP, RATES_FLOP = 16, 31
"""Building R_Z R_Y R_X from cosines and sines; turning three Pauli rates into three gradients."""


def circuit_flop(circuit: Circuit) -> int:
    """Operations of forward and adjoint backward for one angle set, from |0...0> to expectations."""
    program = lower(circuit, from_zero=True)
    return _forward_flop(program) + _backward_flop(program)


def circuit_bytes(circuit: Circuit) -> int:
    """Bytes of one angle set: angles and gradients in and out in both passes, final state written and read."""
    angles, expectations, state = 3 * circuit.n_angles, 2 * 3 * circuit.n_qubits, 2 * 2 * 2**circuit.n_qubits
    return 4 * (angles + expectations + state)


def _counts(program: Program) -> tuple[int, int, int, int]:
    rings = int((program.ops[:, 0] == CRX).sum())
    return program.n_qubits, 2**program.n_qubits, rings, len(program.ops) - rings


def _forward_flop(program: Program) -> int:
    n, size, rings, singles = _counts(program)
    start = n * (SU2_FLOP + 12) + 12 * (size - 1)
    return COS_SIN_FLOP * program.n_angles + start + singles * (SU2_FLOP + 14 * size) + rings * 3 * size + 8 * n * size


def _backward_flop(program: Program) -> int:
    n, size, rings, singles = _counts(program)
    measurement = size * (8 * n + 6)
    undone = singles * (SU2_FLOP + RATES_FLOP + 40 * size) + rings * 8 * size
    start = sum(12 * (2**wire - 1) + 30 * 2**wire + 2 * SU2_FLOP + RATES_FLOP + 30 for wire in range(n))
    return COS_SIN_FLOP * program.n_angles + measurement + undone + start


def scan_flop(b: int, length: int, e: int, n: int) -> int:
    """Operations of forward and backward with recomputation: two exponentials and 24 more a state and step."""
    return b * length * e * n * (2 * EXP_FLOP + 24)


def scan_bytes(b: int, length: int, e: int, n: int) -> int:
    """Bytes of both passes: eight sequences of width e, six of width n, states of every 32nd step out and in."""
    return 4 * (b * length * (8 * e + 6 * n) + 2 * b * (length // 32 + 1) * e * n)


def measure_roofline(rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Ceilings and kernels in the same rounds; a row a kernel with its floor, the larger of the two, in ms."""
    calls: dict[str, Callable[[], object]] = {"matrix product": _gemm(device), "vector sum": _stream(device)}
    work: dict[str, tuple[int, int]] = {}
    for n_qubits, n_batch in CIRCUIT_CASES:
        name, circuit = f"circuit, {n_qubits} qubits, {n_batch}", circuits.published_circuit(n_qubits)
        calls[name] = circuits.forward_and_backward("auto", n_qubits, n_batch, device)
        work[name] = n_batch * circuit_flop(circuit), n_batch * circuit_bytes(circuit)
    for length in SCAN_LENGTHS:
        sizes = (scans.BATCH, length, scans.WIDTH, scans.STATE)
        calls[f"scan, L={length}"] = scans.forward_and_backward("auto", length, device)
        work[f"scan, L={length}"] = scan_flop(*sizes), scan_bytes(*sizes)
    timings = time_side_by_side(calls, rounds)
    gflops = 2 * GEMM_SIZE**3 / timings["matrix product"].cpu / 1e6
    gbytes = 3 * 4 * VECTOR_SIZE / timings["vector sum"].cpu / 1e6
    rows = []
    for name, (flop, traffic) in work.items():
        floors = flop / gflops / 1e6, traffic / gbytes / 1e6
        rows.append({
            "part": "roofline", "kernel": name, **timings[name].to_dict(), "mflop": round(flop / 1e6, 2),
            "mb": round(traffic / 1e6, 2), "ceiling_gflops": round(gflops, 1), "ceiling_gb_s": round(gbytes, 1),
            "arithmetic_floor_ms": round(floors[0], 4), "memory_floor_ms": round(floors[1], 4),
            "share_of_ceiling": round(max(floors) / timings[name].cpu, 3),
        })
    return rows


def _gemm(device: torch.device) -> Callable[[], object]:
    a, b = (torch.rand(GEMM_SIZE, GEMM_SIZE, device=device) for _ in range(2))
    return lambda: a @ b


def _stream(device: torch.device) -> Callable[[], object]:
    a, b, out = (torch.ones(VECTOR_SIZE, device=device) for _ in range(3))
    return lambda: torch.add(a, b, out=out)
