"""Sizes of a model: what a user may set, and every width that follows from it."""

from dataclasses import dataclass

from qablate.errors import QablateError
from qablate.quantum import circuit_kind


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
        smallest = {"n_qubits": 2, "n_layers": 1, "d_model": 8, "d_state": 1, "n_heads": 1, "chunk": 1}
        for name, least in smallest.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise QablateError(f"model settings: {name} is {value}, must be {least} or more")
        if self.d_model % 8 or self.d_model % self.n_heads:
            raise QablateError(
                f"model settings: d_model is {self.d_model}, must be a multiple of 8 and of n_heads ({self.n_heads})"
            )
        if not 0 <= self.dropout < 1:
            raise QablateError(f"model settings: dropout is {self.dropout}, must be in [0, 1)")
        try:
            circuit_kind(self.circuit)
        except QablateError as error:
            raise QablateError(f"model settings: circuit: {error}") from None


@dataclass
class Sizes:
    """Everything that the blocks of one model need to know about its sizes.

    `chunk` is resolved here: 1 where the model reads single steps. What follows from the fields: `n_tokens` vectors
    that the mixer sees (chunks, the last one padded, or steps), widths `d_model` of the tokens and `d_inner` inside of
    the state-space blocks, `step_rank` of the step-size projection of the classical ones (8 as published), `n_angles`
    of one ansatz (three rotations and two ring gates per wire and layer), `n_observables` of one measurement (X, Y, Z
    of every wire), and the `kind` of the circuits on its backend.
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
        self.n_tokens = -(-self.length // self.chunk)
        self.d_model = self.settings.d_model
        self.d_inner = 2 * self.d_model
        self.step_rank = -(-self.d_model // 16)
        self.n_angles = 5 * self.settings.n_qubits * self.settings.n_layers
        self.n_observables = 3 * self.settings.n_qubits
        self.kind = circuit_kind(self.settings.circuit, self.settings.backend)
