"""A T5's weights in pages that several processes share: written once to a file named after their content, and mapped.

What kernels lay out for themselves (the linear layers, at their first use) stays each process's own.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from backbone.errors import BackboneCacheError
from backbone.layout_cache import open_shared, save
from backbone.linear import FloatLinear
from backbone.weights import DecoderLayer, EncoderLayer, FeedForward, T5Weights


def shared(weights: T5Weights, folder: Path) -> T5Weights:
    """The same float32 weights out of a mapped file in `folder`, written if it is not there.

    Raises:
        BackboneCacheError: the file cannot be written or read
    """
    tensors = weights.tensors()
    path = folder / f"{_digest(tensors)}.safetensors"
    try:
        save(tensors, path)
        return _weights(open_shared(path), num_encoder=len(weights.encoder), num_decoder=len(weights.decoder))
    except (OSError, SafetensorError) as exc:
        raise BackboneCacheError(f"cannot share weights in {path}: {exc}") from exc


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _weights(tensors: Mapping[str, Tensor], *, num_encoder: int, num_decoder: int) -> T5Weights:
    return T5Weights(
        embedding=tensors["embedding"],
        encoder_bias=tensors["encoder_bias"],
        encoder=tuple(_encoder_layer(tensors, f"encoder.{i}") for i in range(num_encoder)),
        decoder_bias=tensors["decoder_bias"],
        decoder=tuple(_decoder_layer(tensors, f"decoder.{i}") for i in range(num_decoder)),
        decoder_norm=tensors["decoder_norm"],
        head=tensors["head"],
    )


def _encoder_layer(tensors: Mapping[str, Tensor], path: str) -> EncoderLayer:
    return EncoderLayer(
        qkv=FloatLinear(tensors[f"{path}.qkv"]),
        out=FloatLinear(tensors[f"{path}.out"]),
        feed_forward=_feed_forward(tensors, f"{path}.feed_forward"),
    )


def _decoder_layer(tensors: Mapping[str, Tensor], path: str) -> DecoderLayer:
    return DecoderLayer(
        query_key=FloatLinear(tensors[f"{path}.query_key"]),
        value=FloatLinear(tensors[f"{path}.value"]),
        out=FloatLinear(tensors[f"{path}.out"]),
        cross_query=FloatLinear(tensors[f"{path}.cross_query"]),
        cross_key=tensors[f"{path}.cross_key"],
        cross_value=tensors[f"{path}.cross_value"],
        cross_out=FloatLinear(tensors[f"{path}.cross_out"]),
        feed_forward=_feed_forward(tensors, f"{path}.feed_forward"),
    )


def _feed_forward(tensors: Mapping[str, Tensor], path: str) -> FeedForward:
    gate = tensors.get(f"{path}.gate")
    return FeedForward(
        gate=None if gate is None else FloatLinear(gate),
        inner=FloatLinear(tensors[f"{path}.inner"]),
        out=FloatLinear(tensors[f"{path}.out"]),
    )
