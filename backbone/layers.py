"""The parts that encoder and decoder share: norm, feed-forward, attention within one row."""

import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Architecture
from backbone.weights import FeedForward


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """T5's layer norm without its weight, which is folded into what reads it. [N, H] → [N, H]."""
    return F.rms_norm(x, (x.shape[-1],), None, eps)


def feed_forward(x: Tensor, weights: FeedForward, architecture: Architecture) -> Tensor:
    """The input plus the feed-forward block. [N, H] → [N, H]."""
    normed = rms_norm(x, architecture.norm_eps)
    if weights.gate is None:
        return weights.out(weights.inner(normed, activation=architecture.activation), plus=x)
    gate = weights.gate(normed, activation=architecture.activation)  # [N, F]
    return weights.out(weights.inner(normed, times=gate), plus=x)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of one row; T5 does not scale its scores.

    Args:
        query, key, value: [L, heads, d]
        bias: [heads, L, L], added to the scores

    Returns:
        [L, heads·d]
    """
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        attn_mask=bias[None],
        scale=1.0,
    )  # [1, heads, L, d]
    return mixed[0].transpose(0, 1).flatten(1)
