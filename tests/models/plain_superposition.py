"""The superpositions of 2d, 2e, 4d, 4e as they are defined: every branch a circuit of its own, nothing shared.

`features_one_by_one` takes a built module and repeats its forward pass literally: reversed ansatz for the second
branch, feature layers in front of every branch, chunks reversed for the second core and back after it.
"""

import torch

from qablate.models.encoders import InjectedSuperposition
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
