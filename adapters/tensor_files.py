"""Tensors in safetensors files. Input is untrusted: names, dtypes and shapes are checked, and nothing is unpickled."""

import json
from collections.abc import Collection, Mapping

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from adapters import strict_json
from adapters.errors import InvalidAdapter

_LENGTH_BYTES = 8
"""Size of the first number in the file, which is the length of the header."""
MAX_HEADER_BYTES = 1 << 20
"""Twice what the names of 1,000 labels need at most; parsing more would hold up the other threads."""


def write_tensors(tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file; equal tensors and metadata give equal bytes."""
    copies = {name: np.array(tensor) for name, tensor in tensors.items()}
    data: bytes = safetensors.numpy.save(copies, metadata=None if metadata is None else dict(metadata))
    return data


def read_tensors(data: bytes, file: str, axes: Mapping[str, tuple[str, ...]]) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a file, which must be exactly those in `axes`, in float32.

    Args:
        data: the file
        file: its name, for errors
        axes: for each tensor the names of its axes

    Raises:
        InvalidAdapter: not a whole safetensors file, a header above `MAX_HEADER_BYTES`, other tensors, another dtype,
            or another number of axes
    """
    # a larger length than that of the file is left to safetensors, whose error says so
    if MAX_HEADER_BYTES < (length := _header_length(data)) <= len(data):
        raise InvalidAdapter(f"{file}: header", f"{length:,} bytes", f"at most {MAX_HEADER_BYTES:,}")
    try:
        entries = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as exc:
        raise InvalidAdapter(file, f"{_kind_of(data)} ({exc})", "a whole safetensors file") from exc
    if set(entries) != set(axes):
        expected = f"{' and '.join(axes)} and no other"
        raise InvalidAdapter(f"{file}: tensors", ", ".join(sorted(entries))[:200] or "none", expected)
    found = {}
    for name, names in axes.items():
        entry = entries[name]
        if entry["dtype"] != "F32":
            raise InvalidAdapter(f"{file}: dtype of {name}", entry["dtype"], "F32")
        if len(entry["shape"]) != len(names):
            raise InvalidAdapter(f"{file}: shape of {name}", str(entry["shape"]), f"[{', '.join(names)}]")
        found[name] = np.frombuffer(bytes(entry["data"]), dtype="<f4").reshape(entry["shape"])
    return found


def read_metadata(data: bytes, file: str, names: Collection[str]) -> dict[str, str]:
    """Return the metadata in the header of a file that `read_tensors` accepts.

    Args:
        data: the file
        file: its name, for errors
        names: of the values that it may have

    Raises:
        InvalidAdapter: it is not a mapping of texts, or has other names
    """
    try:
        header = strict_json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + _header_length(data)].decode())
        metadata = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    except (ValueError, RecursionError) as exc:
        raise InvalidAdapter(f"{file}: header", str(exc)[:200], "a JSON object in UTF-8") from exc
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidAdapter(f"{file}: metadata", json.dumps(metadata)[:200], "texts by name")
    if unknown := sorted(metadata.keys() - set(names)):
        raise InvalidAdapter(f"{file}: metadata", ", ".join(unknown)[:200], f"{' and '.join(names)} and no other")
    return metadata


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:_LENGTH_BYTES], "little")


def _kind_of(data: bytes) -> str:
    """Guess the type of a file that is not in safetensors format, for the error message."""
    if data[:4] == b"PK\x03\x04":
        return "a zip archive (a PyTorch checkpoint?)"
    if data[:1] == b"\x80":
        return "a pickle"
    return f"{len(data)} bytes that are not safetensors"
