"""A T5's frozen tensors, laid out for the packed forward. Owns no computation."""

from dataclasses import dataclass

from torch import Tensor, cat, equal
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerFF

from backbone.architecture import Architecture
from backbone.errors import UnsupportedBackbone


@dataclass(frozen=True, slots=True)
class SelfAttention:
    norm: Tensor  # [H]
    qkv: Tensor  # [3·A, H], A = heads × head width
    out: Tensor  # [H, A]


@dataclass(frozen=True, slots=True)
class CrossAttention:
    norm: Tensor  # [H]
    query: Tensor  # [A, H]
    key_value: Tensor  # [2·A, H]
    out: Tensor  # [H, A]


@dataclass(frozen=True, slots=True)
class FeedForward:
    norm: Tensor  # [H]
    inner: Tensor  # [F, H], gated: [2·F, H], gate above linear
    out: Tensor  # [H, F]


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    attention: SelfAttention
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    attention: SelfAttention
    cross: CrossAttention
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class T5Weights:
    """Every tensor of the model. None requires a gradient, none is ever written."""

    embedding: Tensor  # [V, H]
    encoder_bias: Tensor  # [buckets, heads]
    encoder: tuple[EncoderLayer, ...]
    encoder_norm: Tensor  # [H]
    decoder_bias: Tensor  # [buckets, heads]
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: Tensor  # [H]
    head: Tensor  # [V, H]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its path (`encoder.0.attention.qkv`), for checks that compare them all."""
        found: dict[str, Tensor] = {}
        _collect(self, "", found)
        return found


def weights_of(model: T5ForConditionalGeneration, architecture: Architecture) -> T5Weights:
    """Take the tensors out of a `transformers` model; attention and gate projections are fused.

    Raises:
        UnsupportedBackbone: encoder and decoder embed their tokens by different tables
    """
    model.requires_grad_(False)
    for stack in (model.encoder, model.decoder):
        if not equal(stack.embed_tokens.weight, model.shared.weight):
            raise UnsupportedBackbone("encoder and decoder have embedding tables of their own, expected a shared one")
    encoder, decoder = model.encoder, model.decoder
    return T5Weights(
        embedding=model.shared.weight.detach(),
        encoder_bias=encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.detach(),
        encoder=tuple(
            EncoderLayer(
                _self_attention(block.layer[0].SelfAttention, block.layer[0].layer_norm.weight),
                _feed_forward(block.layer[1], architecture),
            )
            for block in encoder.block
        ),
        encoder_norm=encoder.final_layer_norm.weight.detach(),
        decoder_bias=decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.detach(),
        decoder=tuple(
            DecoderLayer(
                _self_attention(block.layer[0].SelfAttention, block.layer[0].layer_norm.weight),
                _cross_attention(block.layer[1].EncDecAttention, block.layer[1].layer_norm.weight),
                _feed_forward(block.layer[2], architecture),
            )
            for block in decoder.block
        ),
        decoder_norm=decoder.final_layer_norm.weight.detach(),
        head=model.lm_head.weight.detach(),
    )


def _self_attention(module: T5Attention, norm: Tensor) -> SelfAttention:
    qkv = cat([module.q.weight, module.k.weight, module.v.weight])
    return SelfAttention(norm.detach(), qkv.detach(), module.o.weight.detach())


def _cross_attention(module: T5Attention, norm: Tensor) -> CrossAttention:
    key_value = cat([module.k.weight, module.v.weight])
    return CrossAttention(norm.detach(), module.q.weight.detach(), key_value.detach(), module.o.weight.detach())


def _feed_forward(module: T5LayerFF, architecture: Architecture) -> FeedForward:
    dense = module.DenseReluDense
    inner = cat([dense.wi_0.weight, dense.wi_1.weight]) if architecture.gated else dense.wi.weight
    return FeedForward(module.layer_norm.weight.detach(), inner.detach(), dense.wo.weight.detach())


def _collect(value: object, path: str, found: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[path] = value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _collect(item, f"{path}.{index}", found)
    else:
        for name in value.__slots__:  # type: ignore[attr-defined]  # every other node is a slotted dataclass
            _collect(getattr(value, name), f"{path}.{name}".lstrip("."), found)
