"""What each model can and cannot see, and what its parameters do; parity is sharp.

Invariances at fresh weights. Parameters without effect, kept because published counts and checkpoints include them.
Mutations, each of one operation of a model that carries the weights of a golden case: every way in which an
implementation could plausibly be wrong moves the outputs out of the tolerance of parity, while the unchanged model
stays inside it. The superpositions of 2d, 2e, 4d, 4e as they are defined, every branch a circuit of its own.
"""

import pytest
import torch
import torch.nn.functional as F
from goldens import PUBLISHED, golden_cases, golden_inputs, golden_model
from published_state import published_tensors

from qablate.catalog import MODELS
from qablate.models import ModelSettings, build_model, encoders, mixers
from qablate.models.encoders import InjectedSuperposition
from qablate.models.layers import ChunkPool
from qablate.models.mixers import StatefulMixer
from qablate.quantum import (
    Circuit,
    ansatz,
    embedding,
    measure,
    reversed_ansatz,
    scale_rotations,
    states,
    superpose_states,
)
from qablate.ssm import selective_scan

LENGTH = 128
SUPERPOSED = ("2d", "2e", "4d", "4e")
CONVOLVED = ("4a", "4d", "4e")
CHUNK_BLIND = ("2d", "2e")
ORDER_BLIND = ("1a", "1b", "1c", "2a", "2d", "2e")


def features_one_by_one(module, chunks, second_ansatz=reversed_ansatz):
    """Features (b, k, m 3n) of chunks (b, k, u); `second_ansatz` builds the gates of the second branch."""
    blocks = []
    for core in range(len(module.cores)):
        seen = chunks.flip(1) if core == 1 else chunks
        features = measure(core_state(module, core, seen, second_ansatz))
        blocks.append(features.flip(1) if core == 1 else features)
    return torch.cat(blocks, dim=-1)


def core_state(module, core, chunks, second_ansatz):
    """Normalised superposition of the three branches of one core: (b, k, 2**n)."""
    injected = isinstance(module, InjectedSuperposition)
    step = torch.sigmoid(module.step(chunks))
    maps = list(module.cores[core])
    head = [module.embedding(chunks)] + ([maps[0](chunks)] if injected else [])
    branches = []
    for map_, build in zip(maps[-3:], (ansatz, second_ansatz, ansatz), strict=True):
        angles, scaled = map_(chunks), len(branches) < 2
        if scaled:
            angles = scale_rotations(angles, step, module.n_qubits, module.n_layers)
        tail = [step * module.injection(chunks)] if injected and scaled else []
        circuit = branch_circuit(module, build, injected, bool(tail))
        branches.append(states(circuit, torch.cat([*head, angles, *tail], dim=-1), "reference"))
    return superpose_states(module.coefficients[core](), torch.stack(branches))


def branch_circuit(module, build, with_features, with_injection):
    """Embedding, feature layers on demand, the branch's ansatz, injection on demand; columns in this order."""
    n, layers = module.n_qubits, module.n_layers
    width, first = 5 * n * layers, n
    gates = embedding(n)
    if with_features:
        gates, first = gates + ansatz(n, layers, first=n), n + width
    gates = gates + build(n, layers, first=first)
    return Circuit(n, gates + (embedding(n, first=first + width) if with_injection else ()))


def fresh_model(model_id, length=LENGTH):
    torch.manual_seed(2024)
    return build_model(model_id, 2, length, 8).eval()


def random_inputs(length=LENGTH, seed=1):
    return torch.rand(4, 2, length, generator=torch.Generator().manual_seed(seed))


def chunk_of(model_id):
    return MODELS[model_id].chunk if MODELS[model_id].chunk > 1 else 32


def permuted_chunks(x, chunk):
    """Whole chunks in another order."""
    order = torch.randperm(LENGTH // chunk, generator=torch.Generator().manual_seed(3))
    return x.unflatten(-1, (-1, chunk))[:, :, order].flatten(-2)


def permuted_steps(x, chunk):
    """The steps of every chunk in another order."""
    order = torch.randperm(chunk, generator=torch.Generator().manual_seed(4))
    return x.unflatten(-1, (-1, chunk))[..., order].flatten(-2)


def change(model, x, other):
    """Largest change of the outputs."""
    with torch.no_grad():
        return (model(x) - model(other)).abs().max().item()


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_order_of_chunks(model_id):
    model, x = fresh_model(model_id), random_inputs()
    moved = change(model, x, permuted_chunks(x, chunk_of(model_id)))
    assert change(model, x, random_inputs(seed=2)) > 1e-4
    if model_id in CHUNK_BLIND:
        assert moved < 1e-6
    elif model_id == "1c":
        assert moved < 1e-4
    else:
        assert moved > 1e-5


@pytest.mark.parametrize("model_id", ORDER_BLIND)
def test_order_of_steps_inside_chunks_is_lost(model_id):
    x = random_inputs()
    assert change(fresh_model(model_id), x, permuted_steps(x, chunk_of(model_id))) < 1e-6


@pytest.mark.parametrize("model_id", CONVOLVED)
def test_only_the_outer_taps_of_the_convolution_see_order(model_id):
    model, x = fresh_model(model_id), random_inputs()
    assert change(model, x, permuted_steps(x, 16)) > 1e-6
    with torch.no_grad():
        model.tokens.convolution.weight[:, :, [0, 2]] = 0
    for permuted in (permuted_steps(x, 16), permuted_chunks(x, 16)):
        assert change(model, x, permuted) < 1e-6


@pytest.mark.parametrize("model_id", SUPERPOSED)
def test_shared_circuits_equal_one_circuit_a_branch_with_all_reversals(model_id):
    features = fresh_model(model_id).encoder.features.double()
    chunks = torch.randn(2, 3, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert (features(chunks) - features_one_by_one(features, chunks)).abs().max() < 1e-10


@pytest.mark.parametrize("model_id", SUPERPOSED)
def test_common_phase_and_scale_of_the_coefficients_have_no_effect(model_id):
    model, x = fresh_model(model_id), random_inputs()
    with torch.no_grad():
        before = model(x)
        coefficients = model.encoder.features.coefficients[-1]
        turned = torch.view_as_real(coefficients() * torch.polar(torch.tensor(2.5), torch.tensor(0.7))).flatten()
        for name, value in zip(coefficients.NAMES, turned, strict=True):
            getattr(coefficients, name).copy_(value)
        assert (model(x) - before).abs().max() < 1e-5
        coefficients.alpha_im.add_(2.0)
        assert (model(x) - before).abs().max() > 1e-5


def gradient_to_later_chunks(passing):
    """Gradient of block 2's first token with respect to each token of block 1's input, model 1b: (chunks,)."""
    first, second = fresh_model("1b").mixer.blocks
    x = torch.randn(1, 4, 128, generator=torch.Generator().manual_seed(6), requires_grad=True)
    middle, state = first(x, None)
    y, _ = second(middle, state if passing else None)
    (gradient,) = torch.autograd.grad(y[:, 0].square().sum(), x)
    return gradient.abs().amax((0, 2))


def test_1b_passes_its_state_on_so_that_the_second_block_sees_the_future():
    assert (gradient_to_later_chunks(passing=True)[1:] > 1e-6).all()
    alone = gradient_to_later_chunks(passing=False)
    assert alone[0] > 1e-6 and (alone[1:] == 0).all()


def test_attention_equals_its_formula_and_its_dropout_masks():
    model = fresh_model("3a", length=20)
    block, x = model.mixer.blocks[0], torch.randn(2, 20, 128, generator=torch.Generator().manual_seed(8))
    for training in (False, True):
        block.train(training)
        torch.manual_seed(9)
        found = block(x)
        torch.manual_seed(9)
        h = block.attention_norm(x)
        q, k, v = (
            map_(h).unflatten(-1, (4, 32)).transpose(1, 2) for map_ in (block.query, block.key, block.value)
        )
        weights = F.dropout((q @ k.mT / 32**0.5).softmax(-1), 0.1, training)
        y = x + F.dropout(block.output((weights @ v).transpose(1, 2).flatten(2)), 0.1, training)
        gate, value = block.gate_input(block.gate_norm(y)).chunk(2, -1)
        expected = y + F.dropout(block.gate_output(F.silu(gate) * value), 0.1, training)
        assert (found - expected).abs().max() < 1e-5


def test_1a_draws_its_first_dropout_mask_in_the_order_of_the_input():
    tokens = fresh_model("1a").tokens.train()
    x = random_inputs()
    torch.manual_seed(10)
    found = tokens(x)
    torch.manual_seed(10)
    assert torch.allclose(found, F.silu(tokens.map(F.dropout(x, 0.1).transpose(1, 2))))


@pytest.mark.parametrize("model_id", ["1b", "1c", "3b", "3c"])
def test_blocks_without_normalisation_overflow(model_id):
    """Inputs a hundred times larger: 3b and 3c normalise them; 1b and 1c, whose norms are never called, overflow."""
    model = fresh_model(model_id, 128)
    inputs = 100 * torch.randn(2, 8, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mixed = model.mixer(inputs)
        normed = model.norm(mixed)
    assert bool(mixed.abs().max() > 1e20) == (model_id in ("1b", "1c"))
    assert bool(normed.isfinite().all()) == (model_id in ("3b", "3c"))
    assert F.layer_norm(mixed.double(), (128,)).isfinite().all()    # the overflow is of float32


# Positions in the published enumeration.
IMAGINARY = {
    "1a": {8, 10, 12},
    "1b": {9, 11, 13},
    "1c": {front + offset for front in (11, 33, 55) for offset in (1, 3, 5)},
}
UNUSED = {"1b": {36, 37, 48, 49}, "1c": {91, 92, 114, 115, 94, 95, 117, 118}}
SOFTMAX_SHIFTS = {
    "1a": {6, 31, 45},
    "1b": {7},
    "1c": {10, 32, 54},
    "2a": {5},
    "2d": {7, 33},
    "2e": {7, 45},
    "3a": {8, 22},
    "4a": {7, 19},
    "4d": {7, 35},
    "4e": {7, 49},
}


def gradients(model_id):
    """A model with gradients of a random batch, and its parameters in published order."""
    torch.manual_seed(12)
    model = build_model(model_id, 2, 100, 8).eval()
    y = model(torch.rand(4, 2, 100))
    (y - torch.rand(4, 8)).square().mean().backward()
    return model, published_tensors(model)


@pytest.mark.parametrize("model_id", MODELS)
def test_only_the_known_parameters_are_dead(model_id):
    _, parameters = gradients(model_id)
    dead = IMAGINARY.get(model_id, set()) | UNUSED.get(model_id, set())
    shifts = SOFTMAX_SHIFTS.get(model_id, set())
    largest = max(p.grad.abs().max() for p in parameters if p.grad is not None)
    for position, parameter in enumerate(parameters):
        if not parameter.requires_grad:
            assert parameter.grad is None and position == 0
        elif position in dead:
            assert parameter.grad is None or not parameter.grad.any(), position
        elif position in shifts:
            assert parameter.grad.abs().max() < 1e-7 * largest, position
        else:
            assert parameter.grad.abs().max() > 0, position


def test_outer_phases_of_1c_have_no_gradient():
    model, _ = gradients("1c")
    for parameter in (model.encoder.alpha, model.encoder.beta, model.encoder.gamma):
        along = parameter.detach().conj() * parameter.grad
        assert along.real.abs() > 1e-7
        assert along.imag.abs() < 1e-6 * along.abs()


def test_phase_and_scale_of_the_combination_of_2a_have_no_gradient():
    model, _ = gradients("2a")
    c = model.encoder.coefficients
    projection = (c.detach().conj() * c.grad).sum()
    assert projection.abs() < 1e-6 * c.grad.abs().sum()


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
