"""Self-attention over all tokens, with a gated feed-forward part (models 1a and 3a).

Shapes: b batch, t tokens, d model width, h heads.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from qablate.models.dropout import Dropout
from qablate.models.layers import RMSNorm, sinusoidal_table
from qablate.models.rows import gated_halves
from qablate.models.sizes import Sizes


class AttentionBlock(nn.Module):
    """Pre-norm attention without mask, then a gated feed-forward part, both residual: (b, t, d) -> (b, t, d)."""

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
        gated = gated_halves(self.gate_input(self.gate_norm(x)))  # (b, t, 2d)
        return x + self.dropout(self.gate_output(gated))

    def _attend(self, x: Tensor) -> Tensor:
        query, key, value = (self._heads(map_(x)) for map_ in (self.query, self.key, self.value))
        if self.training and self.dropout.p > 0 and x.device.type == "cpu":  # PyTorch has no fused kernel for it
            scale = query.shape[-1] ** -0.5
            mixed = self.dropout(((query * scale) @ key.mT).softmax(dim=-1)) @ value  # (b, h, t, d / h)
        else:
            rate = self.dropout.p if self.training else 0.0
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)  # (b, h, t, d / h)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (b, t, d)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (b, h, t, d / h)


class AttentionMixer(nn.Module):
    """Two attention blocks over tokens with sinusoidal positions: (b, t, d) -> (b, t, d).

    The table of positions is a parameter without gradient, because published counts include it.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.positions = nn.Parameter(sinusoidal_table(sizes.n_tokens, sizes.d_model), requires_grad=False)
        self.blocks = nn.Sequential(AttentionBlock(sizes), AttentionBlock(sizes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        return self.blocks(tokens + self.positions)
