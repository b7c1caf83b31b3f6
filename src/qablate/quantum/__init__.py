"""Batched statevector circuits on torch tensors, differentiable, with exchangeable backends.

Angles (..., n_angles), states (..., 2**n) complex, expectations (..., 3 n) in the order X, Y, Z.
"""

from qablate.quantum.circuit import (
    Circuit,
    Gate,
    ansatz,
    embedding,
    lower,
    reverse_wires,
    scale_rotations,
)
from qablate.quantum.execution import (
    BACKEND_NAMES,
    combine_unitaries,
    evolve,
    expectations,
    measure,
    resolve_backend,
    states,
    superpose_concat,
    superpose_features,
    superpose_modulus,
    superpose_states,
)
from qablate.quantum.kinds import KINDS, ExactCircuits, circuit_kind

__all__ = [
    "BACKEND_NAMES", "KINDS", "Circuit", "ExactCircuits", "Gate", "ansatz", "circuit_kind", "combine_unitaries",
    "embedding", "evolve", "expectations", "lower", "measure", "resolve_backend", "reverse_wires", "scale_rotations",
    "states", "superpose_concat", "superpose_features", "superpose_modulus", "superpose_states",
]
