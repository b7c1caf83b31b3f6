"""Batched statevector circuits on torch tensors, differentiable, with exchangeable backends.

Angles (..., n_angles), states (..., 2**n) complex, expectations (..., 3 n) in the order X, Y, Z.
"""

from qablate.quantum.backends import BACKEND_NAMES, Backend, kernel_name, resolve_backend
from qablate.quantum.circuit import (
    Circuit,
    Gate,
    angles_per_layer,
    ansatz,
    embedding,
    reverse_wires,
    reversed_ansatz,
    scale_rotations,
)
from qablate.quantum.execution import evolve, expectations, measure, states
from qablate.quantum.kinds import KINDS, ExactCircuits, circuit_kind
from qablate.quantum.program import Program, lower
from qablate.quantum.superposition import (
    combine_unitaries,
    superpose_concat,
    superpose_features,
    superpose_modulus,
    superpose_states,
)

__all__ = [
    "BACKEND_NAMES",
    "KINDS",
    "Backend",
    "Circuit",
    "ExactCircuits",
    "Gate",
    "Program",
    "angles_per_layer",
    "ansatz",
    "circuit_kind",
    "combine_unitaries",
    "embedding",
    "evolve",
    "expectations",
    "kernel_name",
    "lower",
    "measure",
    "resolve_backend",
    "reverse_wires",
    "reversed_ansatz",
    "scale_rotations",
    "states",
    "superpose_concat",
    "superpose_features",
    "superpose_modulus",
    "superpose_states",
]
