"""Blocks that scan the tokens in both directions (models 1c and 3c).

Shapes: b batch, l tokens, d model width, e inner width, n state size, r rank of the step projection.
The published models take their name from Hwang et al., "Hydra", arXiv:2407.09941; they differ from it in many points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.layers import NORM_EPS, CausalConvolution, RMSNorm
from qablate.models.rows import gated
from qablate.models.selective import SharedDecayCore, initial_decay, step_map
from qablate.models.sizes import Sizes
from qablate.ssm import selective_scan


class HydraBlock(nn.Module):
    """Convolution, scans in both directions, norm, gate, post-norm, residual: (b, l, d) -> (b, l, d). Model 3c.

    As published: both directions share selection, decay and causal convolution, the state takes the input without
    the step size, and the skip is added once a direction.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        e, n, r = sizes.d_inner, sizes.settings.d_state, sizes.step_rank
        self.parts = [e, e, n, n, r]
        self.backend = sizes.settings.scan_backend
        self.input = nn.Linear(sizes.d_model, sum(self.parts), bias=False)
        self.convolution = CausalConvolution(e)
        self.A_log = nn.Parameter(initial_decay(n).repeat(e, 1))  # (e, n)
        self.skip = nn.Parameter(torch.ones(e))
        self.step = step_map(r, e)
        self.output = nn.Linear(e, sizes.d_model, bias=False)
        self.inner_norm = RMSNorm(e)
        self.outer_norm = RMSNorm(sizes.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        z, u, B, C, low_rank = self.input(x).split(self.parts, dim=-1)
        u = self.convolution(u)  # (b, l, e)
        step = F.softplus(self.step(low_rank))  # (b, l, e)
        y = torch.addcmul(self._scan_both_ways(u, step, B, C), self.skip + self.skip, u)  # (b, l, e)
        return x + self.outer_norm(self.output(gated(z, self.inner_norm(y))))

    def _scan_both_ways(self, u: Tensor, step: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """Sum of the scan and the scan of reversed time, run as one scan of twice the batch."""
        both = (torch.cat([part, part.flip(1)]) for part in (u, step, B, C))
        inputs, steps, weights, read_out = both
        y, _ = selective_scan(inputs, steps, -self.A_log.exp(), weights, read_out, backend=self.backend)
        forward, backward = y.chunk(2)
        return forward + backward.flip(1)


class HydraMixer(nn.Sequential):
    """Two Hydra blocks: (b, l, d) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(HydraBlock(sizes), HydraBlock(sizes))


class WeightedHydraBlock(nn.Module):
    """Two cores of their own, one a direction, and a dense path, weighted: (b, l, d) -> (b, l, d). Model 1c.

    `unused_inner_norm` and `unused_norm` take no part; published counts and checkpoints include them.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d, e = sizes.d_model, sizes.d_inner
        self.input = nn.Linear(d, 2 * e, bias=False)
        self.forward_weight = nn.Parameter(torch.ones(1))
        self.backward_weight = nn.Parameter(torch.ones(1))
        self.diagonal_weight = nn.Parameter(torch.full((1,), 0.5))
        self.forward_core = SharedDecayCore(sizes)
        self.backward_core = SharedDecayCore(sizes)
        self.diagonal = nn.Linear(e, e, bias=False)
        self.combination = nn.Linear(e, e, bias=False)
        self.unused_inner_norm = nn.LayerNorm(e, eps=NORM_EPS)
        self.output = nn.Linear(e, d, bias=False)
        self.unused_norm = nn.LayerNorm(d, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        u, z = self.input(x).chunk(2, dim=-1)  # (b, l, e) each
        ahead, _ = self.forward_core(u)
        back, _ = self.backward_core(u.flip(1))
        weights = torch.cat([self.forward_weight, self.backward_weight, self.diagonal_weight])
        a, b, g = (weights / (weights.abs().sum() + 1e-8)).unbind()
        mixed = a * ahead + b * back.flip(1) + g * self.diagonal(u)  # (b, l, e)
        return x + self.output(gated(z, self.combination(mixed)))


class WeightedHydraMixer(nn.Sequential):
    """Two blocks: (b, l, d) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(WeightedHydraBlock(sizes), WeightedHydraBlock(sizes))
