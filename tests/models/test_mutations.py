"""Parity is sharp: every way in which an implementation could plausibly be wrong moves the outputs.

Each mutation changes one operation of a model that carries the weights of a golden case; outputs must then leave
the tolerance of parity, while the unchanged model stays inside it.
"""

import pytest
import torch
import torch.nn.functional as F
from goldens import golden_cases, golden_inputs, golden_model
from plain_superposition import features_one_by_one

from qablate.models import ModelSettings, encoders, mixers
from qablate.models.layers import ChunkPool
from qablate.models.mixers import StatefulMixer
from qablate.quantum import Circuit, ansatz, reversed_ansatz
from qablate.ssm import selective_scan

SUPERPOSED = ("2d", "2e", "4d", "4e")
WITH_CIRCUITS = ("1a", "1b", "1c", "2a", "4a", *SUPERPOSED)
BROKEN = 1e-5


def deviation(model_id, mutate=lambda model: None, index=1):
    """Largest deviation of the outputs from the published ones after a mutation of the model."""
    case = golden_cases()[model_id][index]
    model = golden_model(model_id, case, ModelSettings(backend="torch", scan_backend="torch"))
    mutate(model)
    with torch.no_grad():
        return (model(golden_inputs(case)) - torch.tensor(case["y"])).abs().max().item()


def with_gates(change):
    """Mutation of all circuits of a model: `change` maps a tuple of gates to another one."""

    def mutate(model):
        for module in model.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Circuit):
                    setattr(module, name, Circuit(value.n_qubits, change(value.gates)))

    return mutate


def reversed_rotations(gates):
    """R_Z first and R_X last on every wire."""
    gates = list(gates)
    for i in range(len(gates) - 2):
        if [gate.kind for gate in gates[i : i + 3]] == ["RX", "RY", "RZ"]:
            gates[i], gates[i + 2] = gates[i + 2], gates[i]
    return tuple(gates)


def ascending_backward_ring(gates):
    """The gates of every backward ring in reversed order."""
    gates, i = list(gates), 0
    while i < len(gates):
        if gates[i].kind == "CRX" and gates[i].wires[1] == (gates[i].wires[0] - 1) % 6:
            gates[i : i + 6] = reversed(gates[i : i + 6])
            i += 6
        else:
            i += 1
    return tuple(gates)


def exchanged_controls(gates):
    """Control and target of every CRX exchanged."""
    return tuple(gate._replace(wires=gate.wires[::-1]) for gate in gates)


def exchanged_rings(n_qubits, n_layers, first=0):
    """The reversed ansatz with the forward ring before the backward ring."""
    gates, size = reversed_ansatz(n_qubits, n_layers, first), 5 * n_qubits
    layers = [gates[start : start + size] for start in range(0, len(gates), size)]
    cut, end = 3 * n_qubits, 4 * n_qubits
    return tuple(gate for layer in layers for gate in (*layer[:cut], *layer[end:], *layer[cut:end]))


@pytest.mark.parametrize("model_id", WITH_CIRCUITS)
@pytest.mark.parametrize("change", [reversed_rotations, ascending_backward_ring, exchanged_controls])
def test_other_gates_break_parity(model_id, change):
    assert deviation(model_id) < BROKEN / 2
    assert deviation(model_id, with_gates(change)) > BROKEN


def second_branch(build):
    """Mutation: the superposed features one circuit at a time, the second branch built by `build`."""

    def mutate(model):
        features = model.encoder.features
        features.forward = lambda chunks: features_one_by_one(features, chunks, build)

    return mutate


@pytest.mark.parametrize("model_id", SUPERPOSED)
def test_the_second_branch_needs_the_reversed_ansatz_with_its_own_ring_order(model_id):
    assert deviation(model_id, second_branch(reversed_ansatz)) < BROKEN / 2
    assert deviation(model_id, second_branch(exchanged_rings)) > BROKEN
    assert deviation(model_id, second_branch(ansatz)) > BROKEN


@pytest.mark.parametrize("model_id", SUPERPOSED)
def test_a_step_size_on_the_ring_gates_breaks_parity(model_id, monkeypatch):
    monkeypatch.setattr(encoders, "scale_rotations", lambda angles, scale, n, layers: angles * scale[..., None])
    assert deviation(model_id) > BROKEN


def test_no_state_passing_breaks_parity_of_1b(monkeypatch):
    def forward(self, x):
        for block in self.blocks:
            x, _ = block(x, None)
        return x

    monkeypatch.setattr(StatefulMixer, "forward", forward)
    assert deviation("1b") > BROKEN


def test_a_step_size_in_the_input_term_breaks_parity_of_3c(monkeypatch):
    def scan(inputs, step, *rest, **options):
        return selective_scan(inputs * step, step, *rest, **options)

    monkeypatch.setattr(mixers, "selective_scan", scan)
    assert deviation("3c") > BROKEN


@pytest.mark.parametrize("model_id", WITH_CIRCUITS)
def test_a_mask_over_padded_slots_breaks_parity(model_id, monkeypatch):
    def forward(self, steps):
        b, length, u = steps.shape
        missing = -length % self.chunk
        slots = F.pad(steps, (0, 0, 0, missing)).reshape(-1, self.chunk, u)
        real = F.pad(torch.ones(b, length, 1), (0, 0, 0, missing)).reshape(-1, self.chunk, 1)
        scores = self.score(torch.tanh(self.hidden(slots))).masked_fill(real == 0, -torch.inf)
        return (scores.softmax(1) * slots).sum(1).view(b, -1, u)

    monkeypatch.setattr(ChunkPool, "forward", forward)
    assert deviation(model_id) > BROKEN


def flip_after_padding(model):
    """Mutation of 1c: its second front reverses the padded sequence, so that the padding comes first."""
    pool = model.encoder.back.pool

    def forward(reversed_steps):
        steps = reversed_steps.flip(1)
        return ChunkPool.forward(pool, F.pad(steps, (0, 0, 0, -steps.shape[1] % pool.chunk)).flip(1))

    pool.forward = forward


def test_time_reversal_after_padding_breaks_parity_of_1c():
    assert deviation("1c", flip_after_padding) > BROKEN
