"""Selective state-space cores: step size, input and read-out weights that depend on the token.

Shapes: b batch, l tokens, e inner width, n state size, r rank of the step projection.
Source: Gu and Dao, "Mamba", arXiv:2312.00752, section 3; where the published models differ, the classes say so.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.sizes import Sizes
from qablate.ssm import selective_scan

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1  # range of the initial step sizes, log-uniform


def step_map(rank: int, width: int) -> nn.Linear:
    """Linear map (r -> e) whose bias makes softplus(bias) log-uniform between 0.001 and 0.1."""
    linear = nn.Linear(rank, width)
    with torch.no_grad():
        step = torch.empty(width).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp()
        linear.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
    return linear


def initial_decay(d_state: int) -> Tensor:
    """Logarithm of the decay rates 1, 2, ..., n of the states of a channel."""
    return torch.arange(1, d_state + 1, dtype=torch.float32).log()


class SelectiveCore(nn.Module):
    """Core M, of model 3b: selection from the tokens, scan, skip: (b, l, e) -> (b, l, e)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        e, n, self.rank = sizes.d_inner, sizes.settings.d_state, sizes.step_rank
        self.backend = sizes.settings.scan_backend
        self.A_log = nn.Parameter(initial_decay(n).repeat(e, 1))  # (e, n)
        self.skip = nn.Parameter(torch.ones(e))
        self.selection = nn.Linear(e, self.rank + 2 * n, bias=False)
        self.step = step_map(self.rank, e)

    def forward(self, u: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (b, l, e) and the final state (b, e, n); `initial` is the state before the first token."""
        n = self.A_log.shape[-1]
        low_rank, B, C = self.selection(u).split([self.rank, n, n], dim=-1)
        step = F.softplus(self.step(low_rank))  # (b, l, e)
        decay = (-self.A_log.exp()).expand(u.shape[-1], n)  # (e, n)
        y, final = selective_scan(step * u, step, decay, B, C, initial, self.backend)
        return torch.addcmul(y, self.skip, u), final


class SharedDecayCore(SelectiveCore):
    """Core Q, of models 1b and 1c: one decay for all channels, step rank n, and a dense map after the recurrence."""

    def __init__(self, sizes: Sizes) -> None:
        nn.Module.__init__(self)
        e, n = sizes.d_inner, sizes.settings.d_state
        self.rank, self.backend = n, sizes.settings.scan_backend
        self.A_log = nn.Parameter(initial_decay(n))  # (n)
        self.skip = nn.Parameter(torch.ones(e))
        self.selection = nn.Linear(e, 3 * n, bias=False)
        self.step = step_map(n, e)
        self.post = nn.Linear(e, e, bias=False)

    def forward(self, u: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (b, l, e) and the final state (b, e, n)."""
        y, final = super().forward(u, initial)
        return self.post(y), final
