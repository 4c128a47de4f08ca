"""A T5's weights in memory pages that processes share: one file, named after its content, that all of them map.

The layouts that kernels make of the linear layers at their first use remain private to each process.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backbone.errors import BackboneCacheError
from backbone.linear import FloatLinear
from backbone.weights import DecoderLayer, EncoderLayer, FeedForward, T5Weights


def shared(weights: T5Weights, folder: Path) -> T5Weights:
    """Return the same float32 weights from a mapped file in `folder`; write the file if it does not exist.

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


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the file unless it exists; concurrent processes wait for the one that writes.

    A tensor with two names (a tied head) is written once.

    Raises:
        OSError: the folder cannot be written
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if path.exists():
            return
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            _write(tensors, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def open_shared(path: Path) -> dict[str, Tensor]:
    """Return the tensors in pages that all processes share which open the file.

    Do not write to them: a written page becomes a private copy.

    Raises:
        OSError, safetensors.SafetensorError: the file does not exist or is damaged
    """
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        same_as = file.metadata() or {}
    return found | {name: found[written] for name, written in same_as.items()}


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    written: dict[str, Tensor] = {}
    same_as: dict[str, str] = {}
    first_name: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if identity in first_name:
            same_as[name] = first_name[identity]
        else:
            first_name[identity] = name
            written[name] = tensor.detach().to("cpu", copy=True).contiguous()
    save_file(written, path, metadata=same_as)
