"""Layers that encoder and decoder share: norm, feed-forward, attention within one row."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.architecture import Architecture
from backbone.dropout import Drop
from backbone.linear import Linear
from backbone.weights import FeedForward

MIN_ROWS = 4
"""Minimum rows of a matrix product. Kernels for fewer rows add in another order, so that a row alone would differ in
its last bits from the same row in a batch (docs/decisions.md)."""


def at_least_min_rows(x: Tensor) -> Tensor:
    """Return rows [R, …], with copies of the first one after them if they are fewer than `MIN_ROWS`."""
    missing = MIN_ROWS - len(x)
    return x if missing <= 0 else torch.cat([x, x[:1].expand(missing, *x.shape[1:])])


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Apply T5's layer norm without its weight, which is folded into the next layer. [N, H] → [N, H]."""
    return F.rms_norm(x, (x.shape[-1],), None, eps)


def add_projection(x: Tensor, layer: Linear, y: Tensor, drop: Drop | None) -> Tensor:
    """Return x + y·Wᵀ, with dropout of the product if given."""
    return layer(y, plus=x) if drop is None else x + drop(layer(y))


def feed_forward(x: Tensor, weights: FeedForward, architecture: Architecture, drop: Drop | None = None) -> Tensor:
    """Return the input plus the feed-forward block. [N, H] → [N, H]."""
    inner = inner_features(rms_norm(x, architecture.norm_eps), weights, architecture)
    return add_projection(x, weights.out, inner if drop is None else drop(inner), drop)


def inner_features(normed: Tensor, weights: FeedForward, architecture: Architecture) -> Tensor:
    """Return the activated features of the feed-forward block. [N, H] → [N, F]."""
    if weights.gate is None:
        return weights.inner(normed, activation=architecture.activation)
    return weights.inner(normed, times=weights.gate(normed, activation=architecture.activation))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, drop: Drop | None = None) -> Tensor:
    """Compute attention within one row; T5 does not scale its scores.

    Args:
        query, key, value: [L, heads, d]
        bias: [heads, L, L], added to the scores
        drop: dropout of the probabilities

    Returns:
        [L, heads·d]
    """
    if drop is not None:
        scores = query.transpose(0, 1) @ key.permute(1, 2, 0) + bias  # [heads, L, L]
        probabilities = drop(torch.softmax(scores, dim=-1))
        return (probabilities @ value.transpose(0, 1)).transpose(0, 1).flatten(1)
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        attn_mask=bias[None],
        scale=1.0,
    )  # [1, heads, L, d]
    return mixed[0].transpose(0, 1).flatten(1)
