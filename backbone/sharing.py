"""A T5's weights in memory pages that processes share: one file, named after its content, that all of them map.

The layouts that kernels make of the linear layers at their first use remain private to each process.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backbone.errors import BackboneCacheError
from backbone.linear import FloatLinear
from backbone.weights import DecoderLayer, EncoderLayer, FeedForward, T5Weights

_PRIVATE = 0o700


def shared(weights: T5Weights, folder: Path) -> T5Weights:
    """Return the same float32 weights from a mapped file in `folder`; write the file if it does not exist.

    Raises:
        BackboneCacheError: the file cannot be written or read
    """
    tensors = weights.tensors()
    path = folder / f"{_digest(tensors)}.safetensors"
    try:
        save(tensors, path)  # verifies a file that exists
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
        encoder_norm=tensors["encoder_norm"],
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
    """Write the file and a record of its digest, unless a valid file exists; concurrent processes wait for the writer.

    A tensor with two names (a tied head) is written once. A file with a `fault` is replaced.

    Raises:
        OSError: the folder cannot be written, or belongs to another user
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    _close_folder(path.parent)
    if (
        fault(path) is None
    ):  # checked without the lock, so that processes that start together do not wait for each other
        return
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink():  # opening the lock would truncate what it points to
        lock.unlink()
    with FileLock(lock):
        if fault(path) is None:
            return
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
        record = _record(path)
        try:
            _write(tensors, partial)
            partial.chmod(0o600)
            record.unlink(missing_ok=True)
            _write_record(record, _sha256(partial))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def fault(path: Path) -> str | None:
    """Return why a file must not be mapped, or None if it is the one that `save` wrote.

    It must be a regular file of this user without further hard links, not writable by others, with the recorded digest.
    Reading it for the digest takes 0.18 s for the 246 MB of the embedded backbone, and brings it into the page cache.
    """
    for each in (path, _record(path)):
        try:
            found = each.lstat()
        except OSError as exc:
            return f"{each.name}: {exc.strerror}"
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return f"{each.name} is a link or not a file"
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{each.name} belongs to user {found.st_uid} with mode {found.st_mode & 0o7777:o}"
    if _sha256(path) != _record(path).read_text(encoding="ascii", errors="replace").strip():
        return f"{path.name} has changed since it was written"
    return None


def _close_folder(folder: Path) -> None:
    """Make this user's folder private; refuse another user's folder, whose owner could replace files."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{folder} is a link or not a folder; remove it, or set SUPERPOS_CACHE_DIR")
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"{folder} belongs to user {found.st_uid}, expected user {os.geteuid()}, which runs this process; remove "
            "it, or set SUPERPOS_CACHE_DIR"
        )
    if stat.S_IMODE(found.st_mode) != _PRIVATE:
        folder.chmod(_PRIVATE)


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_record(path: Path, digest: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
