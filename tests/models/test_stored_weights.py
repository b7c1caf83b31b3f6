"""Checks on stored weights: exactly known values on fixed small models."""

import copy
import json
import math

import pennylane as qml
import pytest
import torch

from qablate import checks
from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.models import ModelSettings, build_model
from qablate.quantum import Circuit, ExactCircuits, Gate, ansatz, circuit_kind, embedding, expectations, measure, states
from qablate.quantum.kinds import DepolarisingCircuits
from qablate.study import DatasetSpec
from qablate.tasks import generate
from qablate.tasks.solvers import cell_mean_score

SMALL = {"n_qubits": 4, "n_layers": 1, "d_model": 16, "d_state": 4, "n_heads": 2, "chunk": 8}
COPY = generate(DatasetSpec("selective_copy", 40, 2024, 200))
FORRELATION = generate(DatasetSpec("forrelation", 30, 2024, 200, (("n_bits", 2),)))


def small_model(model_id, dataset=COPY, sharp=4.0, **changes):
    """Fresh weights, those of the angles enlarged so that circuits entangle."""
    torch.manual_seed(1)
    spec = dataset.spec
    if model_id.startswith("3"):
        changes = {"chunk": None, **changes}
    settings = ModelSettings(**{**SMALL, **changes})
    model = build_model(model_id, spec.n_channels, spec.length, spec.n_outputs, settings).eval()
    with torch.no_grad():
        for module in model.modules():
            for name in getattr(module, "makes_angles", ()):
                part = getattr(module, name)
                for number in part.parameters() if isinstance(part, torch.nn.Module) else [part]:
                    number.mul_(sharp)
    return model


def test_q_of_known_states():
    n = 6
    ghz, w, bell = (torch.zeros(2**n, dtype=torch.complex128) for _ in range(3))
    ghz[[0, -1]] = 2**-0.5
    w[[2**q for q in range(n)]] = n**-0.5
    bell[[0, 3 * 2 ** (n - 2)]] = 2**-0.5
    q = checks.meyer_wallach(measure(torch.stack([ghz, w, bell])))
    assert q.tolist() == pytest.approx([1, 1 - (1 - 2 / n) ** 2, 2 / n])
    circuit = Circuit(n, embedding(n) + tuple(g for g in ansatz(n, 2, n) if g.kind != "CRX"))
    angles = torch.randn(5, circuit.n_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert checks.meyer_wallach(expectations(circuit, angles)).abs().max() < 1e-12


@pytest.mark.parametrize("model_id", ["1b", "2a", "2d", "4d"])
def test_swap_scores_the_model_built_with_the_other_kind(model_id):
    model = small_model(model_id)
    before = copy.deepcopy(model.state_dict())
    found = checks.swap(model, COPY, ["unentangled", "mean_field", "tanh", "linear"])
    for kind, value in found.items():
        other = small_model(model_id, circuit=kind)
        other.load_state_dict(model.state_dict())
        assert checks.swap(other, COPY, [])[kind] == pytest.approx(value, abs=1e-9)
    assert len(set(found.values())) == 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {type(module.kind) for module in checks._kinds(model)} == {ExactCircuits}


def test_entanglement_by_model_and_kind():
    """A circuit without entangling gates leaves product states; a superposition of several does not."""
    exact = checks.entanglement(small_model("1b"), COPY)
    assert 0.05 < exact["mean"] < 1 and exact["min"] >= -1e-6 and exact["n_states"] == 20 * 5 * 3
    assert checks.entanglement(small_model("1b", circuit="unentangled"), COPY)["max"] < 1e-5
    assert checks.entanglement(small_model("2d", circuit="unentangled"), COPY)["mean"] > 0.01


def diverged(model):
    model.head.output.bias.data.fill_(math.nan)
    return model


@pytest.mark.parametrize(("attempt", "message"), [
    (lambda: checks.entanglement(small_model("1b", circuit="mean_field"), COPY),
     "model 1b: Q need quantum states, but its circuits are mean_field"),
    (lambda: checks.finite_shots(small_model("3a"), COPY),
     "model 3a: shots need quantum states, but it has no circuit"),
    (lambda: checks.probe(small_model("3b"), COPY), "model 3b: no encoder"),
    (lambda: checks.check_model(small_model("1b"), FORRELATION),
     r"model 1b: \(channels, length, outputs\) are \(2, 40, 8\), the"),
    (lambda: checks.check_model(diverged(small_model("2d")), COPY), "model 2d: its outputs are not finite"),
])
def test_what_cannot_be_checked_is_an_error(attempt, message):
    with pytest.raises(QablateError, match=message):
        attempt()


@pytest.mark.parametrize(
    ("model_id", "inside", "chunks"),
    [("1b", False, True), ("2a", False, True), ("2d", False, False), ("2e", False, False), ("4d", True, True),
     ("3b", True, None)],
)
def test_shuffles_tell_which_order_a_model_knows(model_id, inside, chunks):
    found = checks.shuffle(small_model(model_id), COPY)
    assert found["chunk"] == (32 if model_id == "3b" else 8)
    assert found["inside_chunks"] > 1e-2 if inside else found["inside_chunks"] < 1e-4
    if chunks is None:
        assert found["of_chunks"] is None  # 40 steps hold one chunk of 32
    else:
        assert found["of_chunks"] > 1e-2 if chunks else found["of_chunks"] < 1e-4


def test_a_change_is_counted_in_standard_deviations():
    """A model that reads the first step only: any other step is an independent draw, sqrt(2) deviations away."""
    model, long = small_model("3b"), generate(DatasetSpec("selective_copy", 40, 5, 5000))
    model.forward = lambda x: x[:, 0, :8]
    change = checks.shuffle(model, long)["inside_chunks"]
    assert change == pytest.approx(math.sqrt(2 * 31 / 32), abs=0.03)


def test_probe_does_not_depend_on_trained_weights():
    model = small_model("1b")
    first = checks.probe(model, COPY, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert checks.probe(model, COPY, seed=3) == first != checks.probe(model, COPY, seed=4)
    state = torch.get_rng_state()
    checks.probe(model, COPY)
    assert torch.equal(torch.get_rng_state(), state)


def test_golden_values_of_the_probe():
    copy_ = generate(DatasetSpec("selective_copy", 40, 2024, 1000))
    assert checks.probe(small_model("1b", copy_), copy_) == pytest.approx({"ridge": 0.264, "cells": 0.510}, abs=0.02)
    assert checks.probe(small_model("2a", copy_), copy_) == {"ridge": pytest.approx(0.018, abs=0.02), "cells": None}
    assert cell_mean_score(copy_, 8) == pytest.approx(0.516, abs=0.001)  # the untrained circuit of 1b hides nothing


def test_shots_end_at_the_exact_outputs():
    rows = checks.finite_shots(small_model("2d"), COPY, [10, 1000, 10**9])
    agreement = [row["agreement"] for row in rows]
    assert agreement[0] < agreement[1] < agreement[2] and agreement[2] == pytest.approx(1, abs=1e-4)
    assert [row["shots"] for row in rows] == [10, 1000, 10**9]
    classes = checks.finite_shots(small_model("1b", FORRELATION), FORRELATION, [10**9])
    assert classes[0]["agreement"] >= 0.95


def test_noise_follows_pennylane_on_density_matrices():
    circuit, rate, n = Circuit(2, (*embedding(2), Gate("CRX", (0, 1), 2), Gate("RZ", (1,), 3))), 0.15, 40_000
    given = torch.tensor([0.7, 1.9, 2.2, 0.4])

    @qml.qnode(qml.device("default.mixed", wires=2))
    def noisy():
        for gate in circuit.gates:
            getattr(qml, gate.kind)(float(given[gate.angle]), wires=gate.wires)
            for wire in gate.wires:
                qml.DepolarizingChannel(rate, wires=wire)
        return [qml.expval(pauli(q)) for pauli in (qml.X, qml.Y, qml.Z) for q in range(2)]

    kind = DepolarisingCircuits(circuit_kind("exact"), rate, torch.Generator().manual_seed(0))
    many = given.expand(n, -1)
    zero = torch.zeros(4, dtype=torch.complex64)
    zero[0] = 1
    for found in (kind.expectations(circuit, many), kind.measure(kind.states(circuit, many)),
                  kind.measure(kind.evolve(circuit, given, zero.expand(n, -1)))):
        assert found.mean(0).tolist() == pytest.approx([float(value) for value in noisy()], abs=5 / math.sqrt(n))


def test_an_error_is_the_pauli_matrix_itself():
    """Without a phase, which would be seen in a superposition with branches that did not err."""
    circuit, given = Circuit(1, (Gate("RY", (0,), 0),)), torch.full((200, 1), 0.8, dtype=torch.float64)
    psi = states(circuit, given[:1])[0]
    paulis = torch.tensor([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128)
    erred = DepolarisingCircuits(circuit_kind("exact"), 1.0, torch.Generator().manual_seed(0)).states(circuit, given)
    distance = (erred[:, None] - paulis @ psi).abs().amax(-1)  # (200, 3)
    assert distance.amin(1).max() < 1e-12
    counts = torch.bincount(distance.argmin(1), minlength=3)
    assert counts.min() > 40


def test_gradients_vanish_with_qubits_and_are_those_of_the_definition():
    inputs = torch.rand(5, 2, 16, generator=torch.Generator().manual_seed(0))
    settings = ModelSettings(**{**SMALL, "n_layers": 2})
    torch.manual_seed(0)
    model = build_model("1a", 2, 16, 3, settings).double().eval()
    rows = checks.gradient_variance(model, inputs, n_qubits=(4, 8), n_draws=40)
    assert [row["n_qubits"] for row in rows] == [4, 8] and rows[0]["variance"] > 2 * rows[1]["variance"] > 0
    inputs = inputs[:1].double()
    features = model.encoder.features
    unbounded = features.to_angles(model.encoder.pool(model.tokens(inputs)), features.base_angles)
    angles = 2 * math.pi * torch.sigmoid(unbounded)
    step = 1e-5
    shifted = [angles.clone() for _ in range(2)]
    shifted[0][0, 1, 2, 7] += step
    shifted[1][0, 1, 2, 7] -= step
    up, down = (expectations(features.circuit, a)[..., 8].sum() for a in shifted)
    slope = checks._slopes(model, inputs).view_as(angles)[0, 1, 2, 7]
    assert slope.item() == pytest.approx(((up - down) / (2 * step)).item(), abs=1e-8)


@pytest.mark.parametrize(
    "model_id", [pytest.param(name, marks=() if name in ("2d", "3a", "4a") else pytest.mark.full) for name in MODELS]
)
def test_all_checks_of_every_model_are_plain_numbers(model_id):
    model = small_model(model_id)
    found = json.loads(json.dumps(checks.check_model(model, COPY), allow_nan=False))
    has_circuit = MODELS[model_id].quantum_features or MODELS[model_id].quantum_mixing
    assert {key for key, value in found.items() if value is None} == (
        set() if has_circuit else {"swap", "entanglement", "probe", "shots", "noise"}
    )
    assert found["n_test"] == 20 and isinstance(found["score"], float)
    assert not model.training
    if has_circuit:
        assert found["swap"]["exact"] == found["score"]
        assert [row["shots"] for row in found["shots"]] == [100, 1000, 10000]
        assert [row["rate"] for row in found["noise"]] == [0.001, 0.01]


def test_checks_of_variants():
    found = checks.check_model(small_model("2d", FORRELATION, circuit="tanh"), FORRELATION)
    assert [found[key] for key in ("swap", "entanglement", "shots", "noise")] == [None] * 4
    assert found["probe"]["cells"] is None
    model = small_model("1b", circuit="unentangled")
    (row,) = checks.depolarising(model, COPY, [0.0], n_trajectories=1)    # no noise changes nothing
    assert row["agreement"] == pytest.approx(1, abs=1e-6)
    assert row["score"] == pytest.approx(checks.check_model(model, COPY)["score"], abs=1e-5)
    assert (row["n_items"], row["n_trajectories"]) == (20, 1)
