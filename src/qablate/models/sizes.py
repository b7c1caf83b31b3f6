"""Sizes of a model: what a user may set, and every width that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from qablate.errors import QablateError
from qablate.quantum import ExactCircuits, circuit_kind


@dataclass(frozen=True)
class ModelSettings:
    """What may be set about a model; the defaults are the published values.

    Attributes:
        n_qubits: wires of every circuit, at least 2.
        n_layers: ansatz layers of one angle set.
        d_model: width of the tokens; a multiple of 8 and of `n_heads`.
        d_state: size of the recurrent state of a channel.
        n_heads: attention heads.
        dropout: probability of dropping a number, 0 <= p < 1.
        chunk: steps of one chunk; None is the published size of the model. A model without chunks (3a, 3b, 3c)
            gets a chunk pool after its input map when a size is given.
        circuit: kind of the circuits: exact (as published), unentangled, mean_field, tanh or linear; see
            `qablate.quantum.kinds`.
        train_angles: False leaves the numbers that decide angles at their initial values.
        hand_over: False lets the branches of 4d and 4e start from |0...0> instead of the feature circuit's state.
        backend: of the circuits, see `qablate.quantum`.
        scan_backend: of the selective scan, see `qablate.ssm`.
    """

    n_qubits: int = 6
    n_layers: int = 2
    d_model: int = 128
    d_state: int = 16
    n_heads: int = 4
    dropout: float = 0.1
    chunk: int | None = None
    circuit: str = "exact"
    train_angles: bool = True
    hand_over: bool = True
    backend: str = "auto"
    scan_backend: str = "auto"

    def __post_init__(self) -> None:
        smallest = {"n_qubits": 2, "n_layers": 1, "d_model": 8, "d_state": 1, "n_heads": 1}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise QablateError(f"model settings: {name} is {getattr(self, name)}, must be {least} or more")
        if self.d_model % 8 or self.d_model % self.n_heads:
            raise QablateError(
                f"model settings: d_model is {self.d_model}, must be a multiple of 8 and of n_heads ({self.n_heads})"
            )
        if not 0 <= self.dropout < 1:
            raise QablateError(f"model settings: dropout is {self.dropout}, must be in [0, 1)")
        if self.chunk is not None and self.chunk < 1:
            raise QablateError(f"model settings: chunk is {self.chunk}, must be 1 or more")
        try:
            circuit_kind(self.circuit)
        except QablateError as error:
            raise QablateError(f"model settings: circuit: {error}") from None


@dataclass(frozen=True)
class Sizes:
    """Everything that the blocks of one model need to know about its sizes.

    `chunk` is resolved here: 1 where the model reads single steps.
    """

    n_channels: int
    length: int
    n_outputs: int
    chunk: int
    settings: ModelSettings

    def __post_init__(self) -> None:
        for name in ("n_channels", "length", "n_outputs"):
            if getattr(self, name) < 1:
                raise QablateError(f"model: {name} is {getattr(self, name)}, must be 1 or more")

    @property
    def n_tokens(self) -> int:
        """Vectors that the mixer sees: chunks, the last one padded, or steps."""
        return -(-self.length // self.chunk)

    @property
    def kind(self) -> ExactCircuits:
        """Kind of the circuits, on the backend of the settings."""
        return circuit_kind(self.settings.circuit, self.settings.backend)

    @property
    def d_model(self) -> int:
        """Width of the tokens."""
        return self.settings.d_model

    @property
    def d_inner(self) -> int:
        """Inner width of the state-space blocks, twice the width of the tokens."""
        return 2 * self.settings.d_model

    @property
    def step_rank(self) -> int:
        """Rank of the step-size projection of the classical models: ceil(d_model / 16), 8 as published."""
        return -(-self.settings.d_model // 16)

    @property
    def n_angles(self) -> int:
        """Angles of one ansatz of `n_layers` layers: three rotations and two ring gates a wire and layer."""
        return 5 * self.settings.n_qubits * self.settings.n_layers

    @property
    def n_observables(self) -> int:
        """Expectation values of one measurement: X, Y and Z of every wire."""
        return 3 * self.settings.n_qubits
