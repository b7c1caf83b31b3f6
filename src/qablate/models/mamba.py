"""Blocks that scan the tokens in one direction (models 1b and 3b).

Shapes: b batch, l tokens, d model width, e inner width, n state size.
"""

from __future__ import annotations

from torch import Tensor, nn

from qablate.models.layers import NORM_EPS, CausalConvolution, RMSNorm
from qablate.models.rows import gated
from qablate.models.selective import SelectiveCore, SharedDecayCore
from qablate.models.sizes import Sizes


class MambaBlock(nn.Module):
    """Pre-norm, convolution, selective scan, gate, residual: (b, l, d) -> (b, l, d). Model 3b."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = RMSNorm(sizes.d_model)
        self.input = nn.Linear(sizes.d_model, 2 * sizes.d_inner, bias=False)
        self.convolution = CausalConvolution(sizes.d_inner)
        self.core = SelectiveCore(sizes)
        self.output = nn.Linear(sizes.d_inner, sizes.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        u, z = self.input(self.norm(x)).chunk(2, dim=-1)  # (b, l, e) each
        y, _ = self.core(self.convolution(u))
        return x + self.output(gated(z, y))


class MambaMixer(nn.Sequential):
    """Two Mamba blocks: (b, l, d) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(MambaBlock(sizes), MambaBlock(sizes))


class StatefulBlock(nn.Module):
    """Convolution, scan with shared decay, gate, residual, no norm: (b, l, d) -> (b, l, d). Model 1b.

    `unused_norm` takes no part; published counts and checkpoints include it.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.input = nn.Linear(sizes.d_model, 2 * sizes.d_inner, bias=False)
        self.convolution = CausalConvolution(sizes.d_inner)
        self.core = SharedDecayCore(sizes)
        self.output = nn.Linear(sizes.d_inner, sizes.d_model, bias=False)
        self.unused_norm = nn.LayerNorm(sizes.d_model, eps=NORM_EPS)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens after the block and the final state (b, e, n)."""
        u, z = self.input(x).chunk(2, dim=-1)  # (b, l, e) each
        y, state = self.core(self.convolution(u), state)
        return x + self.output(gated(z, y)), state


class StatefulMixer(nn.Module):
    """Two blocks of which the second starts from the final state of the first: (b, l, d) -> (b, l, d).

    As published: every token of the second block therefore sees the whole sequence.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([StatefulBlock(sizes), StatefulBlock(sizes)])

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed tokens."""
        state = None
        for block in self.blocks:
            x, state = block(x, state)
        return x
