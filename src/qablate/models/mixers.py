"""Mixers of the tokens: self-attention (1a, 3a), selective scans in one direction (1b, 3b) and in both (1c, 3c).

Shapes: b batch, l tokens, d model width, h heads, e inner width, n state size, r rank of the step projection.
Sources: Gu and Dao, "Mamba", arXiv:2312.00752, section 3. The published models 1c and 3c take their name from Hwang et
al., "Hydra", arXiv:2407.09941; they differ from it in many points, of which the classes say the main ones.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.fused import Dropout, gated
from qablate.models.layers import CausalConvolution, RMSNorm
from qablate.models.sizes import Sizes
from qablate.ssm import selective_scan

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1  # range of the initial step sizes, log-uniform


class AttentionBlock(nn.Module):
    """Pre-norm attention without mask, then a gated feed-forward part, both residual: (b, l, d) -> (b, l, d)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d = sizes.d_model
        self.n_heads = sizes.settings.n_heads
        self.attention_norm = RMSNorm(d)
        self.gate_norm = RMSNorm(d)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.output = nn.Linear(d, d)
        self.gate_input = nn.Linear(d, 4 * d)
        self.gate_output = nn.Linear(2 * d, d)
        self.dropout = Dropout(sizes.settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after both parts; dropout acts on softmax weights, attention output, gated output."""
        x = x + self.dropout(self._attend(self.attention_norm(x)))
        gate, value = self.gate_input(self.gate_norm(x)).chunk(2, dim=-1)  # (b, l, 2d) each
        return x + self.dropout(self.gate_output(gated(gate, value)))

    def _attend(self, x: Tensor) -> Tensor:
        query, key, value = (
            map_(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for map_ in (self.query, self.key, self.value)
        )  # (b, h, l, d / h) each
        rate = self.dropout.p if self.training else 0.0
        if rate > 0 and x.device.type == "cpu":  # PyTorch has no fused kernel for it
            scale = query.shape[-1] ** -0.5
            mixed = self.dropout(((query * scale) @ key.mT).softmax(dim=-1)) @ value  # (b, h, l, d / h)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)  # (b, h, l, d / h)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (b, l, d)


def sinusoidal_table(n_tokens: int, width: int) -> Tensor:
    """Positions as sines and cosines, (1, n_tokens, width): even columns sin(t w_i), odd ones cos(t w_i).

    The frequencies w_i = 10000^(-2i/width) fall geometrically. Source: Vaswani et al., arXiv:1706.03762, section 3.5.
    """
    position = torch.arange(n_tokens, dtype=torch.float32)[:, None]  # (t, 1)
    even = torch.arange(0, width, 2, dtype=torch.float32)
    phase = position * torch.exp(even * (-math.log(10000.0) / width))  # (t, width / 2)
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)[None]  # (1, t, width)


class AttentionMixer(nn.Module):
    """Two attention blocks over tokens with sinusoidal positions: (b, l, d) -> (b, l, d).

    The table of positions is a parameter without gradient, because published counts include it.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.positions = nn.Parameter(sinusoidal_table(sizes.n_tokens, sizes.d_model), requires_grad=False)
        self.blocks = nn.Sequential(AttentionBlock(sizes), AttentionBlock(sizes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        return self.blocks(tokens + self.positions)


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
    """Selection from the tokens, scan, skip: (b, l, e) -> (b, l, e). Model 3b.

    With `shared_decay`, as in 1b and 1c: one decay for all channels, step rank n, and a dense map after the recurrence.
    """

    def __init__(self, sizes: Sizes, shared_decay: bool = False) -> None:
        super().__init__()
        e, n = sizes.d_inner, sizes.settings.d_state
        self.rank, self.backend = n if shared_decay else sizes.step_rank, sizes.settings.scan_backend
        self.A_log = nn.Parameter(initial_decay(n) if shared_decay else initial_decay(n).repeat(e, 1))  # (n) or (e, n)
        self.skip = nn.Parameter(torch.ones(e))
        self.selection = nn.Linear(e, self.rank + 2 * n, bias=False)
        self.step = step_map(self.rank, e)
        self.post = nn.Linear(e, e, bias=False) if shared_decay else nn.Identity()

    def forward(self, u: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (b, l, e) and the final state (b, e, n); `initial` is the state before the first token."""
        n = self.A_log.shape[-1]
        low_rank, B, C = self.selection(u).split([self.rank, n, n], dim=-1)
        step = F.softplus(self.step(low_rank))  # (b, l, e)
        decay = (-self.A_log.exp()).expand(u.shape[-1], n)  # (e, n)
        y, final = selective_scan(step * u, step, decay, B, C, initial, self.backend)
        return self.post(torch.addcmul(y, self.skip, u)), final


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


class StatefulBlock(nn.Module):
    """Convolution, scan with shared decay, gate, residual, no norm: (b, l, d) -> (b, l, d). Model 1b.

    `unused_norm` takes no part; published counts and checkpoints include it.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.input = nn.Linear(sizes.d_model, 2 * sizes.d_inner, bias=False)
        self.convolution = CausalConvolution(sizes.d_inner)
        self.core = SelectiveCore(sizes, shared_decay=True)
        self.output = nn.Linear(sizes.d_inner, sizes.d_model, bias=False)
        self.unused_norm = nn.LayerNorm(sizes.d_model)

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


class HydraBlock(nn.Module):
    """Convolution, scans in both directions, norm, gate, post-norm, residual: (b, l, d) -> (b, l, d). Model 3c.

    As published: both directions share selection, decay and causal convolution, the state takes the input without
    the step size, and the skip is added once per direction.
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
        """Return the tokens after the block; both directions run as one scan of twice the batch."""
        z, u, B, C, low_rank = self.input(x).split(self.parts, dim=-1)
        u = self.convolution(u)  # (b, l, e)
        step = F.softplus(self.step(low_rank))  # (b, l, e)
        inputs, steps, weights, read_out = (torch.cat([part, part.flip(1)]) for part in (u, step, B, C))
        y, _ = selective_scan(inputs, steps, -self.A_log.exp(), weights, read_out, backend=self.backend)
        forward, backward = y.chunk(2)
        y = torch.addcmul(forward + backward.flip(1), self.skip + self.skip, u)  # (b, l, e)
        return x + self.outer_norm(self.output(gated(z, self.inner_norm(y))))


class WeightedHydraBlock(nn.Module):
    """Two cores of their own, one per direction, and a dense path, weighted: (b, l, d) -> (b, l, d). Model 1c.

    `unused_inner_norm` and `unused_norm` take no part; published counts and checkpoints include them.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d, e = sizes.d_model, sizes.d_inner
        self.input = nn.Linear(d, 2 * e, bias=False)
        self.forward_weight = nn.Parameter(torch.ones(1))
        self.backward_weight = nn.Parameter(torch.ones(1))
        self.diagonal_weight = nn.Parameter(torch.full((1,), 0.5))
        self.forward_core = SelectiveCore(sizes, shared_decay=True)
        self.backward_core = SelectiveCore(sizes, shared_decay=True)
        self.diagonal = nn.Linear(e, e, bias=False)
        self.combination = nn.Linear(e, e, bias=False)
        self.unused_inner_norm = nn.LayerNorm(e)
        self.output = nn.Linear(e, d, bias=False)
        self.unused_norm = nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        u, z = self.input(x).chunk(2, dim=-1)  # (b, l, e) each
        ahead, _ = self.forward_core(u)
        back, _ = self.backward_core(u.flip(1))
        weights = torch.cat([self.forward_weight, self.backward_weight, self.diagonal_weight])
        a, b, g = (weights / (weights.abs().sum() + 1e-8)).unbind()
        mixed = a * ahead + b * back.flip(1) + g * self.diagonal(u)  # (b, l, e)
        return x + self.output(gated(z, self.combination(mixed)))
