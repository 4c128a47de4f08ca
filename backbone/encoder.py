"""The packed encoder: one [N, H] matrix through every linear layer, attention within each row."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.layers import attend, feed_forward, rms_norm
from backbone.packing import PackedBatch
from backbone.relative_bias import EncoderBias
from backbone.weights import EncoderLayer, T5Weights


def embed(packed: PackedBatch, embedding: Tensor, prompts: Tensor) -> Tensor:
    """Token embeddings and prompt rows in their places, [N, H]. Only `prompts` [R, H] can receive a gradient."""
    x = embedding.new_empty(packed.num_tokens, embedding.shape[1])  # [N, H]
    x = x.index_copy(0, packed.token_positions, embedding[packed.token_ids])
    return x.index_copy(0, packed.prompt_positions, prompts.index_select(0, packed.prompt_rows))


def encode(
    packed: PackedBatch,
    prompts: Tensor,  # [R, H]
    *,
    weights: T5Weights,
    architecture: Architecture,
    bias: EncoderBias,
    pause: Callable[[], None],
) -> Tensor:
    """The encoder's last hidden states, [N, H], normed; the weight of that norm is folded into the decoder.

    Calls `pause` before each half of a layer: `prompts` has been read by then.
    """
    lengths = [end - start for start, end in pairwise(packed.offsets)]
    biases = [bias.for_length(length) for length in lengths]
    x = embed(packed, weights.embedding, prompts)
    for layer in weights.encoder:
        pause()
        x = _self_attention(x, layer, architecture, lengths, biases)
        pause()
        x = feed_forward(x, layer.feed_forward, architecture)
    return rms_norm(x, architecture.norm_eps)


def _self_attention(
    x: Tensor,  # [N, H]
    layer: EncoderLayer,
    architecture: Architecture,
    lengths: list[int],  # [B]
    biases: list[Tensor],  # B × [heads, L_i, L_i]
) -> Tensor:
    """X plus the attention block, [N, H]."""
    qkv = layer.qkv(rms_norm(x, architecture.norm_eps))  # [N, 3·A]
    qkv = qkv.view(-1, 3, architecture.num_heads, architecture.head_dim)
    mixed = []
    for row, bias in zip(torch.split(qkv, lengths), biases, strict=True):
        query, key, value = row.unbind(1)  # [L, heads, d] each
        mixed.append(attend(query, key, value, bias))
    return layer.out(torch.cat(mixed), plus=x)
