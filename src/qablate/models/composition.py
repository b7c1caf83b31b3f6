"""A model as a chain of parts, the same for all twelve.

(b, c, l) -> tokens (b, l, u) -> encoder (b, k, d) -> mixer (b, k, d) -> norm -> pool (b, d) -> head (b, outputs)
Shapes: b batch, c channels, l length, u features of a step, k tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from qablate.errors import QablateError
from qablate.models.sizes import Sizes

Part = Callable[[Sizes], nn.Module]


def no_part(sizes: Sizes) -> nn.Module:
    """A part that a model does without."""
    return nn.Identity()


@dataclass(frozen=True)
class Composition:
    """The parts of one model, and where its parameters are in the published enumeration.

    `published_order` names parameters or whole modules (then all their parameters, in the order of registration) of
    the built model, in the order in which published checkpoints hold their tensors.
    """

    tokens: Part
    head: Part
    encoder: Part | None = None
    mixer: Part = no_part
    norm: Part = no_part
    pool: Part = no_part
    published_order: tuple[str, ...] = ("tokens", "encoder", "mixer", "norm", "pool", "head")


class SequenceModel(nn.Module):
    """One of the models: (b, channels, length) -> (b, outputs)."""

    def __init__(self, model_id: str, composition: Composition, sizes: Sizes) -> None:
        """Build the parts in the order of the data's way through them; initial weights are drawn in this order."""
        super().__init__()
        self.model_id, self.sizes = model_id, sizes
        self.published_order = composition.published_order
        self.tokens = composition.tokens(sizes)
        self.encoder = (composition.encoder or no_part)(sizes)
        self.mixer = composition.mixer(sizes)
        self.norm = composition.norm(sizes)
        self.pool = composition.pool(sizes)
        self.head = composition.head(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs; an input of another layout, length or precision is a QablateError."""
        if x.dim() != 3 or x.shape[1:] != (self.sizes.n_channels, self.sizes.length):
            raise QablateError(
                f"model {self.model_id}: input has shape {tuple(x.shape)}, must be "
                f"(batch, channels, length) = (any, {self.sizes.n_channels}, {self.sizes.length})"
            )
        dtype = next(self.tokens.parameters()).dtype
        if x.dtype != dtype:
            raise QablateError(f"model {self.model_id}: input is {x.dtype}, must be {dtype}")
        tokens = self.encoder(self.tokens(x))
        return self.head(self.pool(self.norm(self.mixer(tokens))))
