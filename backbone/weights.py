"""Frozen tensors of a T5, arranged for the packed forward, without any computation.

Norm weights are folded here, once: into the layers that read the norm (T5's norm has no bias, so diag(g) moves into
their columns), and the encoder's last norm into the decoder's keys and values.
"""

from dataclasses import dataclass

from torch import Tensor, cat, equal
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Block, T5LayerFF

from backbone.architecture import Architecture
from backbone.errors import UnsupportedBackbone
from backbone.linear import FloatLinear, Linear


@dataclass(frozen=True, slots=True)
class FeedForward:
    gate: Linear | None  # [F, H], the activated half of a gated T5
    inner: Linear  # [F, H]
    out: Linear  # [H, F]


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    qkv: Linear  # [3·A, H], A = heads × head width
    out: Linear  # [H, A]
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    query_key: Linear  # [2·A, H]
    value: Linear  # [A, H], separate: a single node's attention is its value
    out: Linear  # [H, A]
    cross_query: Linear  # [A, H]
    cross_key: Tensor  # [heads, d, H], multiplied with the query: keys are never computed
    cross_value: Tensor  # [heads, H, d], multiplied with the output
    cross_out: Linear  # [H, A]
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class T5Weights:
    """All tensors of the model. They require no gradient and are never written."""

    embedding: Tensor  # [V, H]
    encoder_bias: Tensor  # [buckets, heads]
    encoder: tuple[EncoderLayer, ...]
    decoder_bias: Tensor  # [buckets, heads]
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: Tensor  # [H]
    head: Tensor  # [V, H]

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its path (`encoder.0.feed_forward.out`), for comparisons."""
        found: dict[str, Tensor] = {}
        _collect(self, "", found)
        return found


def weights_of(model: T5ForConditionalGeneration, architecture: Architecture) -> T5Weights:
    """Return the folded and fused tensors of a `transformers` model.

    Raises:
        UnsupportedBackbone: encoder and decoder have different embedding tables
    """
    model.requires_grad_(False)
    for stack in (model.encoder, model.decoder):
        if not equal(stack.embed_tokens.weight, model.shared.weight):
            raise UnsupportedBackbone("encoder and decoder have different embedding tables, expected a shared one")
    encoder, decoder = model.encoder, model.decoder
    return T5Weights(
        embedding=model.shared.weight.detach(),
        encoder_bias=encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.detach(),
        encoder=tuple(_encoder_layer(block, architecture) for block in encoder.block),
        decoder_bias=decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.detach(),
        decoder=tuple(
            _decoder_layer(block, architecture, encoder_norm=encoder.final_layer_norm.weight.detach())
            for block in decoder.block
        ),
        decoder_norm=decoder.final_layer_norm.weight.detach(),
        head=model.lm_head.weight.detach(),
    )


def _encoder_layer(block: T5Block, architecture: Architecture) -> EncoderLayer:
    attention, norm = block.layer[0].SelfAttention, block.layer[0].layer_norm.weight.detach()
    return EncoderLayer(
        qkv=FloatLinear(cat([attention.q.weight, attention.k.weight, attention.v.weight]).detach() * norm),
        out=FloatLinear(attention.o.weight.detach()),
        feed_forward=_feed_forward(block.layer[1], architecture),
    )


def _decoder_layer(block: T5Block, architecture: Architecture, *, encoder_norm: Tensor) -> DecoderLayer:
    own, norm = block.layer[0].SelfAttention, block.layer[0].layer_norm.weight.detach()
    cross, cross_norm = block.layer[1].EncDecAttention, block.layer[1].layer_norm.weight.detach()
    return DecoderLayer(
        query_key=FloatLinear(cat([own.q.weight, own.k.weight]).detach() * norm),
        value=FloatLinear(own.v.weight.detach() * norm),
        out=FloatLinear(own.o.weight.detach()),
        cross_query=FloatLinear(cross.q.weight.detach() * cross_norm),
        cross_key=_by_head(cross.k.weight.detach() * encoder_norm, architecture),
        cross_value=_by_head(cross.v.weight.detach() * encoder_norm, architecture).transpose(1, 2).contiguous(),
        cross_out=FloatLinear(cross.o.weight.detach()),
        feed_forward=_feed_forward(block.layer[2], architecture),
    )


def _by_head(weight: Tensor, architecture: Architecture) -> Tensor:
    """Split a weight by head, [A, H] → [heads, d, H]."""
    return weight.view(architecture.num_heads, architecture.head_dim, -1)


def _feed_forward(module: T5LayerFF, architecture: Architecture) -> FeedForward:
    dense, norm = module.DenseReluDense, module.layer_norm.weight.detach()
    gate, inner = (dense.wi_0, dense.wi_1) if architecture.gated else (None, dense.wi)
    return FeedForward(
        gate=None if gate is None else FloatLinear(gate.weight.detach() * norm),
        inner=FloatLinear(inner.weight.detach() * norm),
        out=FloatLinear(dense.wo.weight.detach()),
    )


def _collect(value: object, path: str, found: dict[str, Tensor]) -> None:
    if value is None:
        return
    if isinstance(value, Tensor):
        found[path] = value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _collect(item, f"{path}.{index}", found)
    elif isinstance(value, _PARTS):
        for name in value.__slots__:
            _collect(getattr(value, name), f"{path}.{name}".lstrip("."), found)
    else:
        _collect(value.weight, path, found)  # type: ignore[attr-defined]  # a layer in any precision


_PARTS = (T5Weights, EncoderLayer, DecoderLayer, FeedForward)
