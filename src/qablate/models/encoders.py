"""From steps to chunk tokens, through a circuit: angles, coefficients, measured features, encoders.

Modules of features map the vectors of the chunks (..., u) to (..., `n_features`).
Shapes: `...` samples and chunks, b batch, l length, k chunks, u features of a step or chunk, d model width, n qubits,
r branches, m cores, a angles of one ansatz.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.fused import Dropout
from qablate.models.layers import ChunkPool, NormedMap
from qablate.models.sizes import Sizes
from qablate.quantum import (
    Circuit,
    ansatz,
    embedding,
    scale_rotations,
    superpose_concat,
    superpose_features,
    superpose_modulus,
)


class AngleMaps(nn.ModuleList):
    """One linear map per branch, evaluated together: (..., u) -> (..., r, a)."""

    def __init__(self, n_branches: int, n_features: int, n_angles: int) -> None:
        super().__init__(nn.Linear(n_features, n_angles) for _ in range(n_branches))

    def forward(self, x: Tensor, offsets: Iterable[Tensor] = ()) -> Tensor:
        """Return the angles; `offsets` (a), one per branch, are added to the biases."""
        return joint_linear(x, self, offsets).unflatten(-1, (len(self), -1))


def joint_linear(x: Tensor, maps: Iterable[nn.Module], offsets: Iterable[Tensor] = ()) -> Tensor:
    """Results of several linear maps of the same input side by side, as one matrix product: (..., sum of outputs)."""
    linear = cast(list[nn.Linear], list(maps))
    bias, shift = torch.cat([map_.bias for map_ in linear]), list(offsets)
    return F.linear(x, torch.cat([map_.weight for map_ in linear]), bias + torch.cat(shift) if shift else bias)


class BoundedAngles(nn.Linear):
    """Linear map to one angle per wire, bounded by pi tanh: (..., u) -> (..., n)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return angles between -pi and pi."""
        return math.pi * torch.tanh(super().forward(x))


class RealPairCoefficients(nn.Module):
    """Three complex coefficients as six real parameters: re and im of alpha, beta, gamma. Call: (3) complex."""

    NAMES = ("alpha_re", "alpha_im", "beta_re", "beta_im", "gamma_re", "gamma_im")

    def __init__(self, shape: tuple[int, ...], lowest: float, highest: float) -> None:
        """Draw the real parts from U(lowest, highest), set the imaginary parts to zero; each has `shape`."""
        super().__init__()
        for name in self.NAMES:
            start = torch.empty(shape).uniform_(lowest, highest) if name.endswith("_re") else torch.zeros(shape)
            self.register_parameter(name, nn.Parameter(start))

    def forward(self) -> Tensor:
        """Return alpha, beta, gamma."""
        pairs = torch.stack([getattr(self, name).reshape(()) for name in self.NAMES]).view(3, 2)
        return torch.view_as_complex(pairs)


class ComplexParameters(nn.Module):
    """Base of modules with complex parameters: these follow the precision and device that a user sets.

    PyTorch's `Module.double()` leaves complex parameters as they are and `Module.to(torch.float64)` drops their
    imaginary parts; here both act on the pairs of real numbers.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def on_pairs(tensor: Tensor) -> Tensor:
            return torch.view_as_complex(fn(torch.view_as_real(tensor))) if tensor.is_complex() else fn(tensor)

        return super()._apply(on_pairs, recurse)


def complex_uniform(size: int) -> nn.Parameter:
    """A complex vector whose real and imaginary parts are drawn from U(0, 1)."""
    return nn.Parameter(torch.view_as_complex(torch.rand(size, 2)))


class CircuitFeatures(nn.Module):
    """Base of the modules that read chunks with circuits of a kind: `n_features` numbers per chunk.

    `makes_angles` names the parts whose numbers decide angles; they are not trained under `train_angles=False`.
    """

    makes_angles: tuple[str, ...] = ("to_angles", "embedding")

    def __init__(self, sizes: Sizes, n_measured: int) -> None:
        super().__init__()
        self.n_features, self.kind = n_measured * sizes.n_observables, sizes.kind
        self.n_qubits, self.n_layers = sizes.settings.n_qubits, sizes.settings.n_layers

    def embedded_circuit(self, n_layers: int) -> Circuit:
        """Embedding, then the ansatz: columns of angles in this order, n + a."""
        n = self.n_qubits
        return Circuit(n, embedding(n) + ansatz(n, n_layers, first=n))


class ModulusBranches(CircuitFeatures):
    """Three circuits without embedding; modulus of the weighted sum of their expectations. Model 1a, 3 n features."""

    makes_angles = ("to_angles", "base_angles")

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(sizes, 1)
        self.circuit = Circuit(self.n_qubits, ansatz(self.n_qubits, self.n_layers))
        self.coefficients = RealPairCoefficients((1,), 0.0, 1.0)
        self.to_angles = AngleMaps(3, n_inputs, sizes.n_angles)
        self.base_angles = nn.ParameterList(torch.rand(sizes.n_angles) * 2 * math.pi for _ in range(3))

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features; angles lie between 0 and 2 pi."""
        angles = 2 * math.pi * torch.sigmoid(self.to_angles(chunks, self.base_angles))  # (..., 3, a)
        measured = self.kind.expectations(self.circuit, angles)  # (..., 3, 3n)
        return superpose_modulus(self.coefficients(), measured.movedim(-2, 0))


class ConcatenatedBranches(CircuitFeatures):
    """Three circuits with a common embedding; weighted expectations side by side. Models 1b and 1c, 9 n features."""

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(sizes, 3)
        self.circuit = self.embedded_circuit(self.n_layers)
        self.coefficients = RealPairCoefficients((1,), 0.25, 0.75)
        self.to_angles = AngleMaps(3, n_inputs, sizes.n_angles)
        self.embedding = BoundedAngles(n_inputs, self.n_qubits)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features."""
        return self.combine(self.kind.expectations(self.circuit, self.angles(chunks)))

    def angles(self, chunks: Tensor) -> Tensor:
        """Angles of the three circuits: (..., 3, n + a)."""
        embedded = self.embedding(chunks)[..., None, :]  # (..., 1, n)
        return torch.cat([embedded.expand(*chunks.shape[:-1], 3, -1), self.to_angles(chunks)], dim=-1)

    def combine(self, measured: Tensor) -> Tensor:
        """Features of measured circuits: (..., 3, 3n) -> (..., 9n)."""
        return superpose_concat(self.coefficients(), measured.movedim(-2, 0))


class DeepCircuit(CircuitFeatures):
    """One circuit of twice as many layers. Model 4a, 3 n features."""

    def __init__(self, sizes: Sizes, n_inputs: int) -> None:
        super().__init__(sizes, 1)
        self.circuit = self.embedded_circuit(2 * self.n_layers)
        self.to_angles = nn.Linear(n_inputs, 2 * sizes.n_angles)
        self.embedding = BoundedAngles(n_inputs, self.n_qubits)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features."""
        angles = torch.cat([self.embedding(chunks), self.to_angles(chunks)], dim=-1)  # (..., n + 2a)
        return self.kind.expectations(self.circuit, angles)


class SuperposedCores(CircuitFeatures):
    """Superposed states: three branches on one register, weighted, normalised, measured. Models 2d, 2e, 4d, 4e.

    The second branch runs the ansatz with its wires reversed. It equals the plain ansatz between two reversals of the
    wires, so all branches of all cores share one circuit call. As published, the second core reads the chunks in
    reversed order and its features are reversed back. Every circuit sees one chunk only, so the reversals cancel; they
    are omitted here.
    """

    coefficients: nn.ModuleList  # of RealPairCoefficients
    makes_angles: tuple[str, ...] = ("cores", "embedding", "step")

    def __init__(self, sizes: Sizes, n_inputs: int, n_cores: int, n_maps: int) -> None:
        super().__init__(sizes, n_cores)
        self.cores = nn.ModuleList(AngleMaps(n_maps, n_inputs, sizes.n_angles) for _ in range(n_cores))
        self.embedding = BoundedAngles(n_inputs, self.n_qubits)

    def equal_weights(self) -> nn.ModuleList:
        """Coefficients of every core that all start at 1 / sqrt(3)."""
        return nn.ModuleList(RealPairCoefficients((), 1 / math.sqrt(3), 1 / math.sqrt(3)) for _ in self.cores)

    def core_angles(self, chunks: Tensor) -> Tensor:
        """Unscaled angles of all maps of all cores: (..., m, maps, a)."""
        cores = cast(list[AngleMaps], list(self.cores))
        angles = joint_linear(chunks, (map_ for core in cores for map_ in core))
        return angles.unflatten(-1, (len(cores), len(cores[0]), -1))

    def scaled_branches(self, angles: Tensor, scale: Tensor) -> Tensor:
        """Angles (..., m, 3, a) with the rotations of the first two branches times `scale` (..., 1)."""
        factors = torch.cat([scale, scale, torch.ones_like(scale)], dim=-1)[..., None, :]  # (..., 1, 3)
        return scale_rotations(angles, factors.expand(angles.shape[:-1]), self.n_qubits, self.n_layers)

    def measured(self, branches: Tensor) -> Tensor:
        """Features (..., m 3n) of branch states (..., m, 3, 2**n), the second with its wires reversed."""
        superposed = []
        for coefficients, core in zip(self.coefficients, branches.unbind(-3), strict=True):
            first, second, third = core.unbind(-2)
            in_order = torch.stack([first, self.kind.reverse_wires(second), third])
            superposed.append(self.kind.superpose(coefficients(), in_order))  # (..., 2**n)
        return self.kind.measure(torch.stack(superposed, dim=-2)).flatten(-2)


class EmbeddedSuperposition(SuperposedCores):
    """The chunk enters by an embedding before each branch; a step size scales its rotations. Models 2d and 2e."""

    def __init__(self, sizes: Sizes, n_inputs: int, n_cores: int) -> None:
        super().__init__(sizes, n_inputs, n_cores, 3)
        self.circuit = self.embedded_circuit(self.n_layers)
        hidden = sizes.d_model // 8
        self.step = nn.Sequential(nn.Linear(n_inputs, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.coefficients = self.equal_weights()

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features: (..., u) -> (..., m 3n)."""
        step = torch.sigmoid(self.step(chunks))  # (..., 1)
        angles = self.scaled_branches(self.core_angles(chunks), step)  # (..., m, 3, a)
        embedded = self.embedding(chunks)  # (..., n)
        of_branches = torch.stack([embedded, embedded.flip(-1), embedded], dim=-2)[..., None, :, :]
        angles = torch.cat([of_branches.expand(*angles.shape[:-1], -1), angles], dim=-1)  # (..., m, 3, n + a)
        return self.measured(self.kind.states(self.circuit, angles))


class InjectedSuperposition(SuperposedCores):
    """A feature circuit hands its state to the branches; two of them end with an injection. Models 4d and 4e.

    The feature circuit of a core is simulated once. The third branch has no injection: its injection angles are 0.
    With `hand_over=False` the branches start from |0...0>, and the maps of the feature circuit
    have no effect and are not trained.
    """

    makes_angles = ("cores", "embedding", "step", "injection")

    def __init__(self, sizes: Sizes, n_inputs: int, n_cores: int) -> None:
        super().__init__(sizes, n_inputs, n_cores, 4)
        n, self.hand_over = self.n_qubits, sizes.settings.hand_over
        self.features = self.embedded_circuit(self.n_layers)
        self.branches = Circuit(n, ansatz(n, self.n_layers) + embedding(n, first=sizes.n_angles))
        self.step = nn.Linear(n_inputs, 1)
        self.injection = BoundedAngles(n_inputs, n)
        self.coefficients = self.equal_weights()
        if not self.hand_over:
            for idle in (self.embedding, *(cast(AngleMaps, core)[0] for core in self.cores)):
                idle.requires_grad_(False)

    def forward(self, chunks: Tensor) -> Tensor:
        """Return the features: (..., u) -> (..., m 3n)."""
        feature_angles, branch_angles = self.core_angles(chunks).split([1, 3], dim=-2)  # (..., m, 1 or 3, a)
        step = torch.sigmoid(self.step(chunks))  # (..., 1)
        injected = step * self.injection(chunks)  # (..., n)
        injected = torch.stack([injected, injected.flip(-1), torch.zeros_like(injected)], dim=-2)[..., None, :, :]
        branch_angles = self.scaled_branches(branch_angles, step)  # (..., m, 3, a)
        injected = injected.expand(*branch_angles.shape[:-1], -1)  # (..., m, 3, n)
        angles = torch.cat([branch_angles, injected], dim=-1)  # (..., m, 3, a + n)
        if not self.hand_over:
            return self.measured(self.kind.states(self.branches, angles))
        feature_angles = feature_angles[..., 0, :]  # (..., m, a)
        embedded = self.embedding(chunks)[..., None, :].expand(*feature_angles.shape[:-1], -1)  # (..., m, n)
        start = self.kind.states(self.features, torch.cat([embedded, feature_angles], dim=-1))  # (..., m, 2**n)
        start = torch.stack([start, self.kind.reverse_wires(start), start], dim=-2)  # (..., m, 3, 2**n)
        return self.measured(self.kind.evolve(self.branches, angles, start))


class ChunkEncoder(nn.Module):
    """Pool of every chunk, features of a circuit, map to the model width: (b, l, u) -> (b, k, d)."""

    def __init__(
        self, sizes: Sizes, n_inputs: int, pool_hidden: int, features: Callable[[Sizes, int], Any], dropout: bool
    ) -> None:
        super().__init__()
        self.pool = ChunkPool(n_inputs, pool_hidden, sizes.chunk)
        self.features = features(sizes, n_inputs)
        self.output = NormedMap(self.features.n_features, sizes.d_model)
        self.dropout = Dropout(sizes.settings.dropout if dropout else 0.0)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the tokens of the chunks."""
        return self.dropout(self.output(self.features(self.pool(steps))))


class ThreeWayEncoder(ComplexParameters):
    """Three chunk encoders, the second on reversed time, superposed by moduli: (b, l, d) -> (b, k, d). Model 1c.

    As published, time is reversed before the padding: where the chunk does not divide the length, the second encoder
    reads other windows than the first.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.kind = sizes.kind
        self.alpha, self.beta, self.gamma = complex_uniform(1), complex_uniform(1), complex_uniform(1)
        self.ahead, self.back, self.diagonal = (
            ChunkEncoder(sizes, sizes.d_model, sizes.d_model // 2, ConcatenatedBranches, dropout=False)
            for _ in range(3)
        )
        self.dropout = Dropout(sizes.settings.dropout)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the tokens of the chunks; the nine circuits run in one call."""
        fronts = (self.ahead, self.back, self.diagonal)
        readings = (steps, steps.flip(1), steps)
        angles = torch.stack(
            [front.features.angles(front.pool(x)) for front, x in zip(fronts, readings, strict=True)]
        )  # (3, b, k, 3, n + a)
        measured = self.kind.expectations(self.ahead.features.circuit, angles)  # (3, b, k, 3, 3n)
        ahead, back, diagonal = (
            front.output(front.features.combine(m)) for front, m in zip(fronts, measured, strict=True)
        )  # (b, k, d) each
        coefficients = torch.cat([self.alpha, self.beta, self.gamma])
        return self.dropout(superpose_features(coefficients, torch.stack([ahead, back.flip(1), diagonal])))


class UnitaryCombination(ComplexParameters):
    """One state per chunk, summed over chunks with trained weights, one more layer, measured. Model 2a.

    (b, l, d) -> (b, d). As published, the weights depend on the position of the chunk and not on its content.
    """

    makes_angles = ("to_angles", "final_angles")

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        n, d = sizes.settings.n_qubits, sizes.d_model
        self.kind = sizes.kind
        self.circuit = Circuit(n, ansatz(n, sizes.settings.n_layers))
        self.final_circuit = Circuit(n, ansatz(n, 1))
        self.pool = ChunkPool(d, d // 2, sizes.chunk)
        self.dropout = Dropout(sizes.settings.dropout)
        self.coefficients = complex_uniform(sizes.n_tokens)
        self.final_angles = nn.Parameter(0.1 * torch.randn(self.final_circuit.n_angles))
        self.to_angles = nn.Linear(d, sizes.n_angles)
        self.output = nn.Linear(sizes.n_observables, d)

    def forward(self, steps: Tensor) -> Tensor:
        """Return one vector per sample; angles lie between 0 and 1."""
        chunks = self.dropout(self.pool(steps))  # (b, k, d)
        psi = self.kind.states(self.circuit, torch.sigmoid(self.to_angles(chunks)))  # (b, k, 2**n)
        phi = self.kind.combine_unitaries(self.coefficients, psi)  # (b, 2**n)
        phi = self.kind.evolve(self.final_circuit, self.final_angles, phi)
        return self.output(self.kind.measure(phi))
