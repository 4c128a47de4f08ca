"""The parts that encoder and decoder share: norm, feed-forward, attention within one row."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Architecture
from backbone.weights import FeedForward


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """T5's layer norm: no mean, no bias. [N, H] → [N, H]."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def feed_forward(x: Tensor, weights: FeedForward, architecture: Architecture) -> Tensor:
    """The feed-forward block without its residual. [N, H] → [N, H]."""
    inner = F.linear(rms_norm(x, weights.norm, architecture.norm_eps), weights.inner)  # [N, F] or [N, 2·F]
    if not architecture.gated:
        return F.linear(_activate(inner, architecture), weights.out)
    gate, linear = inner.chunk(2, dim=-1)  # [N, F] each
    return F.linear(_activate(gate, architecture) * linear, weights.out)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of one row; T5 does not scale its scores.

    Args:
        query: [Q, heads, d]
        key, value: [L, heads, d]
        bias: [heads, Q, L], added to the scores

    Returns:
        [Q, heads·d]
    """
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        attn_mask=None if bias is None else bias[None],
        scale=1.0,
    )  # [1, heads, Q, d]
    return mixed[0].transpose(0, 1).flatten(1)


def _activate(x: Tensor, architecture: Architecture) -> Tensor:
    return torch.relu(x) if architecture.activation == "relu" else F.gelu(x, approximate="tanh")
