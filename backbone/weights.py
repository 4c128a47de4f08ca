"""Frozen tensors of a T5, arranged for the packed forward, without any computation.

Norm weights are folded here, once: into the layers that read the norm (T5's norm has no bias, so diag(g) moves into
their columns), and the encoder's last norm into the decoder's keys and values. `encoder_norm` is kept as well, for
readouts that use the encoder's states without the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from torch import Tensor, cat, equal

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
    encoder_norm: Tensor  # [H], folded into the decoder
    decoder_bias: Tensor  # [buckets, heads]
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: Tensor  # [H]
    head: Tensor  # [V, H]

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its path (`encoder.0.feed_forward.out`), for comparisons."""
        found: dict[str, Tensor] = {}
        _collect(self, "", found)
        return found

    def compact(self) -> "T5Weights":
        """Return the model for inference alone, with each weight only in the layout that its kernel reads."""
        return replace(self, encoder=tuple(map(_compact, self.encoder)), decoder=tuple(map(_compact, self.decoder)))


def tensor_shapes(architecture: Architecture, *, untied_head: bool) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a T5 checkpoint needs, as `transformers` names them.

    Args:
        architecture: the checkpoint's dimensions
        untied_head: the checkpoint has a head of its own; otherwise the embedding table is the head
    """
    width, inner = architecture.width, architecture.num_heads * architecture.head_dim
    tables = ["shared.weight", *(["lm_head.weight"] if untied_head else [])]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(tables, (architecture.vocab_size, width))
    up = ("wi_0", "wi_1") if architecture.gated else ("wi",)
    for stack, num_layers, attentions in (
        ("encoder", architecture.num_encoder_layers, ("SelfAttention",)),
        ("decoder", architecture.num_decoder_layers, ("SelfAttention", "EncDecAttention")),
    ):
        buckets = (architecture.relative_buckets, architecture.num_heads)
        shapes[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = buckets
        shapes[f"{stack}.final_layer_norm.weight"] = (width,)
        for block in (f"{stack}.block.{index}" for index in range(num_layers)):
            for index, attention in enumerate(attentions):
                shapes[f"{block}.layer.{index}.layer_norm.weight"] = (width,)
                shapes |= {f"{block}.layer.{index}.{attention}.{name}.weight": (inner, width) for name in "qkv"}
                shapes[f"{block}.layer.{index}.{attention}.o.weight"] = (width, inner)
            last = f"{block}.layer.{len(attentions)}"
            shapes[f"{last}.layer_norm.weight"] = (width,)
            shapes |= {f"{last}.DenseReluDense.{name}.weight": (architecture.ff_width, width) for name in up}
            shapes[f"{last}.DenseReluDense.wo.weight"] = (width, architecture.ff_width)
    return shapes


def weights_of(tensors: Mapping[str, Tensor], architecture: Architecture) -> T5Weights:
    """Fold and fuse the tensors of a checkpoint.

    Args:
        tensors: float32 on the device that the forward runs on, by the names that `transformers` gives them
        architecture: the checkpoint's dimensions

    Raises:
        UnsupportedBackbone: encoder and decoder have different embedding tables
    """
    embedding = tensors["shared.weight"]
    for stack in ("encoder", "decoder"):
        if not equal(tensors.get(f"{stack}.embed_tokens.weight", embedding), embedding):
            raise UnsupportedBackbone("encoder and decoder have different embedding tables, expected a shared one")
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    encoder_norm = tensors["encoder.final_layer_norm.weight"]
    blocks = {
        stack: [_Block(tensors, f"{stack}.block.{index}.layer", architecture) for index in range(num_layers)]
        for stack, num_layers in (
            ("encoder", architecture.num_encoder_layers),
            ("decoder", architecture.num_decoder_layers),
        )
    }
    return T5Weights(
        embedding=embedding,
        encoder_bias=tensors[f"encoder.{bias}"],
        encoder=tuple(block.encoder_layer() for block in blocks["encoder"]),
        encoder_norm=encoder_norm,
        decoder_bias=tensors[f"decoder.{bias}"],
        decoder=tuple(block.decoder_layer(encoder_norm) for block in blocks["decoder"]),
        decoder_norm=tensors["decoder.final_layer_norm.weight"],
        head=tensors.get("lm_head.weight", embedding),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """One block of a checkpoint, whose layers it folds and fuses."""

    tensors: Mapping[str, Tensor]
    prefix: str
    architecture: Architecture

    def encoder_layer(self) -> EncoderLayer:
        q, k, v, o = self._attention(0, "SelfAttention")
        return EncoderLayer(
            qkv=FloatLinear(cat([q, k, v]) * self._norm(0)), out=FloatLinear(o), feed_forward=self._feed_forward(1)
        )

    def decoder_layer(self, encoder_norm: Tensor) -> DecoderLayer:
        q, k, v, o = self._attention(0, "SelfAttention")
        cross_q, cross_k, cross_v, cross_o = self._attention(1, "EncDecAttention")
        return DecoderLayer(
            query_key=FloatLinear(cat([q, k]) * self._norm(0)),
            value=FloatLinear(v * self._norm(0)),
            out=FloatLinear(o),
            cross_query=FloatLinear(cross_q * self._norm(1)),
            cross_key=self._by_head(cross_k * encoder_norm),
            cross_value=self._by_head(cross_v * encoder_norm).transpose(1, 2).contiguous(),
            cross_out=FloatLinear(cross_o),
            feed_forward=self._feed_forward(2),
        )

    def _attention(self, layer: int, name: str) -> list[Tensor]:
        return [self.tensors[f"{self.prefix}.{layer}.{name}.{part}.weight"] for part in "qkvo"]

    def _norm(self, layer: int) -> Tensor:
        return self.tensors[f"{self.prefix}.{layer}.layer_norm.weight"]

    def _by_head(self, weight: Tensor) -> Tensor:
        """Split a weight by head, [A, H] → [heads, d, H]."""
        return weight.view(self.architecture.num_heads, self.architecture.head_dim, -1)

    def _feed_forward(self, layer: int) -> FeedForward:
        dense, norm = f"{self.prefix}.{layer}.DenseReluDense", self._norm(layer)
        gate, inner = ("wi_0", "wi_1") if self.architecture.gated else (None, "wi")
        return FeedForward(
            gate=None if gate is None else FloatLinear(self.tensors[f"{dense}.{gate}.weight"] * norm),
            inner=FloatLinear(self.tensors[f"{dense}.{inner}.weight"] * norm),
            out=FloatLinear(self.tensors[f"{dense}.wo.weight"]),
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


_Part = TypeVar("_Part", EncoderLayer, DecoderLayer, FeedForward)


def _compact(part: _Part) -> _Part:
    """Return a layer, or its feed-forward, with compact linear layers."""
    changed: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, FloatLinear):
            changed[field.name] = value.compact()
        elif isinstance(value, FeedForward):
            changed[field.name] = _compact(value)
    return replace(part, **changed)
