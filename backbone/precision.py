"""Precisions of a backbone, and the conversion of its float32 weights."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from backbone.blocks import LARGE_BLOCKS, SMALL_BLOCKS
from backbone.errors import DeviceUnavailable
from backbone.int8 import Int8Linear
from backbone.linear import FloatLinear, Linear
from backbone.weights import DecoderLayer, EncoderLayer, FeedForward, T5Weights

Precision = Literal["fp32", "int8", "bf16"]

TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "int8": 1e-4, "bf16": 0.1}
"""Allowed difference between a row's log-probabilities in a batch and alone."""


def cpu_has_bf16() -> bool:
    """Return whether this CPU has instructions for matrix products in bf16; others are many times slower in bf16."""
    known = torch.cpu.get_capabilities()
    # "bf16" is Arm's
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def device_named(name: str) -> torch.device:
    """Return the device of a name.

    Raises:
        DeviceUnavailable: it is neither a CPU nor a CUDA device, or PyTorch finds no CUDA device
    """
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise DeviceUnavailable(f"device {name!r} is invalid, expected 'cpu' or 'cuda'") from exc
    if device.type not in ("cpu", "cuda"):
        raise DeviceUnavailable(f"device {name!r} is not supported, expected 'cpu' or 'cuda'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(f"device {name!r} is not available: PyTorch finds no CUDA device")
    return device


def fastest_for_training(device: torch.device) -> Precision:
    """Return `bf16` where a training step is faster in it, else `fp32`.

    That is a CUDA device that computes in bf16, or a CPU with AMX or AVX512-BF16; Arm's instructions are not measured.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    known = torch.cpu.get_capabilities()
    # 1.5× with AVX512-BF16 alone: 16 rows of the ticket task take 0.64 s instead of 0.99 s on a core of an AMD EPYC
    return "bf16" if known.get("amx_bf16", False) or known.get("avx512_bf16", False) else "fp32"


def fastest_for_serving(device: torch.device) -> Precision:
    """Return `bf16` on a CPU that answers faster in it, else `fp32`; a CUDA device serves bf16 where it is asked for.

    32 mixed rows take 0.49 of the time with AMX (benchmarks/engine).
    """
    return fastest_for_training(device) if device.type == "cpu" else "fp32"


def reduced_precisions(device: torch.device) -> tuple[Literal["bf16", "int8"], ...]:
    """Return the reduced precisions that a device supports."""
    if device.type == "cpu":
        return ("bf16", "int8") if cpu_has_bf16() else ("int8",)
    return ("bf16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ()


def check_device(device: torch.device, precision: Precision) -> None:
    """Check that a device supports a precision.

    Raises:
        DeviceUnavailable: it does not
    """
    if precision == "int8" and device.type != "cpu":
        raise DeviceUnavailable(f"precision 'int8' runs on device 'cpu', not on '{device}'")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        raise DeviceUnavailable(
            "precision 'bf16' needs bf16 instructions (AVX512-BF16, AMX, Arm's), which this CPU lacks: "
            "it would be slower than fp32; expected 'fp32' or 'int8'"
        )


def in_precision(weights: T5Weights, precision: Precision) -> T5Weights:
    """Return the model with its linear layers converted; the float32 weights are unchanged.

    int8 converts the encoder's layers, which do nearly all of the work; the decoder and everything that is not a linear
    layer stay in float32. bf16 converts every matrix; the residual stream, the norms and the label scores stay in
    float32. On a CPU so does the encoder's attention: its backward kernel takes 5× as long in bf16, a fifth of a
    training step.
    """
    if precision == "int8":
        return replace(weights, encoder=tuple(map(_int8_layer, weights.encoder)))
    if precision == "bf16":
        on_cpu = weights.embedding.device.type == "cpu"
        return replace(
            weights,
            encoder_bias=weights.encoder_bias if on_cpu else weights.encoder_bias.bfloat16(),
            encoder=tuple(map(_bf16_encoder_layer, weights.encoder)),
            decoder_bias=weights.decoder_bias.bfloat16(),
            decoder=tuple(map(_bf16_decoder_layer, weights.decoder)),
        )
    return weights


def _int8_layer(layer: EncoderLayer) -> EncoderLayer:
    feed_forward = layer.feed_forward
    return EncoderLayer(
        qkv=Int8Linear(layer.qkv.weight),
        out=Int8Linear(layer.out.weight),
        feed_forward=FeedForward(
            gate=None if feed_forward.gate is None else Int8Linear(feed_forward.gate.weight),
            inner=Int8Linear(feed_forward.inner.weight),
            # T5's outliers are here: with 8 bits for the whole row its other values would vanish
            out=Int8Linear(feed_forward.out.weight, twice=True),
        ),
    )


def _bf16(layer: Linear, blocks: Sequence[int] = SMALL_BLOCKS) -> FloatLinear:
    return FloatLinear(layer.weight.to(torch.bfloat16), blocks=blocks)


def _bf16_feed_forward(layer: FeedForward, blocks: Sequence[int] = SMALL_BLOCKS) -> FeedForward:
    gate = None if layer.gate is None else _bf16(layer.gate, blocks)
    return FeedForward(gate=gate, inner=_bf16(layer.inner, blocks), out=_bf16(layer.out, blocks))


def _bf16_encoder_layer(layer: EncoderLayer) -> EncoderLayer:
    blocks = LARGE_BLOCKS
    return EncoderLayer(
        _bf16(layer.qkv, blocks), _bf16(layer.out, blocks), _bf16_feed_forward(layer.feed_forward, blocks)
    )


def _bf16_decoder_layer(layer: DecoderLayer) -> DecoderLayer:
    return DecoderLayer(
        query_key=_bf16(layer.query_key),
        value=_bf16(layer.value),
        out=_bf16(layer.out),
        cross_query=_bf16(layer.cross_query),
        cross_key=layer.cross_key.bfloat16(),
        cross_value=layer.cross_value.bfloat16(),
        cross_out=_bf16(layer.cross_out),
        feed_forward=_bf16_feed_forward(layer.feed_forward),
    )
