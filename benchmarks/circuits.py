"""Timing of circuits: forward and backward of angles to expectations, float32.

Shapes: B angle sets, n qubits. The circuit is the one of models 1b and 1c: R_Y embedding, two layers, all Paulis.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from timing import Timing, time_side_by_side, usable
from torch import Tensor

from qablate.quantum import BACKEND_NAMES, Circuit, ansatz, embedding, expectations, resolve_backend

N_LAYERS = 2
LIGHTNING_SAMPLES = 16
"""lightning.qubit simulates sample by sample: this many are run, the time is scaled to the batch."""

CASES = ((6, 128), (6, 512), (6, 3200), (8, 800), (10, 200))
MAX_GRAPH_BYTES = 4e9
"""Backends that keep every gate's state are not run where these would take more than this."""

BASELINE = "pennylane"
KEEPS_ALL_STATES = ("pennylane", "reference")


def measure_circuits(cases: Iterable[tuple[int, int]], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """One row for each (n, B) and backend: times, ratio to default.qubit, or why it was not run."""
    rows: list[dict[str, Any]] = []
    for n_qubits, n_batch in cases:
        calls, skipped = _contenders(n_qubits, n_batch, device)
        timings = time_side_by_side(calls, rounds)
        rows += [_row(n_qubits, n_batch, name, timings) for name in timings]
        rows += [{**_identity(n_qubits, n_batch, name), "skipped": reason} for name, reason in skipped.items()]
    return rows


def published_circuit(n_qubits: int) -> Circuit:
    """R_Y embedding and two layers of the ansatz: 11 n angles."""
    return Circuit(n_qubits, embedding(n_qubits) + ansatz(n_qubits, N_LAYERS, first=n_qubits))


def forward_and_backward(backend: str, n_qubits: int, n_batch: int, device: torch.device) -> Callable[[], object]:
    """A call that runs the circuit and its gradient for one fixed batch of angles."""
    circuit = published_circuit(n_qubits)
    angles = _angles(n_batch, circuit).to(device).requires_grad_()
    weights = torch.cos(torch.arange(3.0 * n_qubits, device=device))

    def call() -> tuple[Tensor, ...]:
        return torch.autograd.grad((expectations(circuit, angles, backend) * weights).sum(), angles)

    return call


def usable_backends(device: torch.device) -> tuple[list[str], dict[str, str]]:
    """Circuit backends that serve the device, and for the others why not."""
    return usable(BACKEND_NAMES, lambda name: resolve_backend(name, device))


def _angles(n_batch: int, circuit: Circuit) -> Tensor:
    generator = torch.Generator().manual_seed(2024)
    return torch.rand(n_batch, circuit.n_angles, generator=generator) * 6 - 3


def _contenders(
    n_qubits: int, n_batch: int, device: torch.device
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    backends, skipped = usable_backends(device)
    circuit = published_circuit(n_qubits)
    graph_bytes = 3.0 * n_batch * 2**n_qubits * 16 * len(circuit.gates)
    calls: dict[str, Callable[[], object]] = {}
    for name in backends:
        if name in KEEPS_ALL_STATES and graph_bytes > MAX_GRAPH_BYTES:
            skipped[name] = f"the states it keeps would take about {graph_bytes / 1e9:.0f} GB"
        else:
            calls[name] = forward_and_backward(name, n_qubits, n_batch, device)
    try:
        calls["lightning"] = _lightning(circuit)
    except ImportError as error:
        skipped["lightning"] = f"{error.name} is not installed"
    return calls, skipped


def _lightning(circuit: Circuit) -> Callable[[], object]:
    """PennyLane's lightning.qubit with adjoint gradients, one sample after the other."""
    import pennylane as qml
    import pennylane_lightning  # noqa: F401  (named here, so that a missing one is an ImportError)

    device = qml.device("lightning.qubit", wires=circuit.n_qubits)
    gates = {"RX": qml.RX, "RY": qml.RY, "RZ": qml.RZ, "CRX": qml.CRX}

    def node(angles: Tensor) -> Any:
        for gate in circuit.gates:
            gates[gate.kind](angles[gate.angle], wires=gate.wires)
        return [qml.expval(pauli(q)) for pauli in (qml.X, qml.Y, qml.Z) for q in range(circuit.n_qubits)]

    run = qml.QNode(node, device, interface="torch", diff_method="adjoint")
    samples = [row.clone().requires_grad_() for row in _angles(LIGHTNING_SAMPLES, circuit)]

    def call() -> list[tuple[Tensor, ...]]:
        return [torch.autograd.grad(torch.stack(tuple(run(angles))).sum(), angles) for angles in samples]

    return call


def _identity(n_qubits: int, n_batch: int, name: str) -> dict[str, Any]:
    return {"part": "circuit", "n_qubits": n_qubits, "batch": n_batch, "contender": name}


def _row(n_qubits: int, n_batch: int, name: str, timings: dict[str, Timing]) -> dict[str, Any]:
    timing = timings[name]
    row = {**_identity(n_qubits, n_batch, name), **timing.to_dict(), "baseline": BASELINE, "ratio": None}
    scale = 1.0
    if name == "lightning":
        scale = n_batch / LIGHTNING_SAMPLES
        for key in ("cpu_ms", "cpu_ms_min", "wall_ms"):
            row[key] = round(row[key] * scale, 4)
        row["scaled_from_samples"] = LIGHTNING_SAMPLES
    if BASELINE in timings:
        row["ratio"] = round(timing.ratio_to(timings[BASELINE]) / scale, 4)
    return row
