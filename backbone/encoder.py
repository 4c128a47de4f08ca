"""The packed encoder: one [N, H] matrix through every linear layer, attention within each row."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from backbone.architecture import Architecture
from backbone.dropout import Dropout
from backbone.layers import add_projection, feed_forward, rms_norm
from backbone.packing import PackedBatch
from backbone.relative_bias import EncoderBias
from backbone.row_attention import Padded, RowByRow
from backbone.weights import T5Weights


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
    dropout: Dropout | None = None,
) -> Tensor:
    """The encoder's last hidden states, [N, H], normed; the weight of that norm is folded into the decoder.

    Calls `pause` before each half of a layer: `prompts` has been read by then.
    """
    lengths = [end - start for start, end in pairwise(packed.offsets)]
    device = weights.embedding.device
    drop = None if dropout is None else dropout.of(lengths)
    # the padded rectangle has no dropout: an ablation does without its speed
    row_by_row = drop is not None or device.type == "cpu"
    attend = RowByRow(lengths, bias, drop) if row_by_row else Padded(lengths, bias, device=device)
    x = embed(packed, weights.embedding, prompts)
    x = x if drop is None else drop(x)
    for layer in weights.encoder:
        pause()
        qkv = layer.qkv(rms_norm(x, architecture.norm_eps))  # [N, 3·A]
        mixed = attend(qkv.view(-1, 3, architecture.num_heads, architecture.head_dim))  # [N, A]
        x = add_projection(x, layer.out, mixed, drop)
        pause()
        x = feed_forward(x, layer.feed_forward, architecture, drop)
    x = rms_norm(x, architecture.norm_eps)
    return x if drop is None else drop(x)
