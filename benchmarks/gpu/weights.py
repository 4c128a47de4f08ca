"""The embedded backbone as one compact file, for a machine that can be reached by files only.

Each matrix of the embedded backbone was de-quantised from int8, so it has at most 256 different values. The file keeps
these values in float32 and one byte per weight. The bytes are Huffman-coded: matches, which deflate looks for as well,
make them larger. Unpacked, every file of the folder is the same to the byte.
"""

import io
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from adapters.atomic_files import atomic_write
from backbone import BackboneError, embedded

MAX_BYTES = 64 << 20
"""Size that a packed file must not exceed."""

_WEIGHTS = "model.safetensors"
_HINT = "write it again: python -m benchmarks.gpu pack --out FILE"

Array = NDArray[np.generic]


class DamagedWeights(BackboneError):
    """The file is cut off or changed, or it is not a packed backbone."""


class TooLarge(BackboneError):
    """The packed weights exceed `MAX_BYTES`."""


def pack(folder: Path, target: Path) -> int:
    """Pack the folder of the embedded backbone into a file; return its size in bytes.

    Raises:
        TooLarge: the weights are not those of an int8 model, so that the file would exceed `MAX_BYTES`
    """
    arrays: dict[str, Array] = {}
    for name, tensor in load_file(folder / _WEIGHTS).items():
        values, indices = np.unique(tensor.view(np.uint32), return_inverse=True)  # bits, in which -0.0 is not 0.0
        if len(values) > 256:
            arrays[f"raw/{name}"] = tensor
            continue
        arrays[f"values/{name}"] = values.view(np.float32)
        arrays[f"shape/{name}"] = np.array(tensor.shape)
        arrays[f"bytes/{name}"] = _coded(indices.astype(np.uint8).tobytes(), zlib.Z_HUFFMAN_ONLY)
    for path in folder.iterdir():
        if path.name != _WEIGHTS:
            arrays[f"file/{path.name}"] = _coded(path.read_bytes(), zlib.Z_DEFAULT_STRATEGY)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    size = packed.getbuffer().nbytes
    if size > MAX_BYTES:
        raise TooLarge(f"{folder} takes {size / 2**20:.1f} MiB packed, expected at most {MAX_BYTES >> 20}")
    atomic_write({target: packed.getvalue()})
    return size


def unpack(source: Path, cache_dir: Path) -> Path:
    """Unpack a file into a cache folder, where `backbone.load("embedded", …)` finds it; return its folder.

    Raises:
        DamagedWeights: the file is not a packed backbone, or its content has another checksum than when it was packed
        OSError: a file cannot be read or written
    """
    folder = embedded.folder_in(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".embedded-") as temporary:
        fresh = Path(temporary) / "weights"
        fresh.mkdir()
        try:
            _write(source, fresh)
        except (
            AttributeError,
            EOFError,
            LookupError,
            SafetensorError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
        ) as exc:
            raise DamagedWeights(f"{source} is not a packed backbone, or it is damaged: {exc}; {_HINT}") from exc
        if not embedded.is_whole(fresh):
            raise DamagedWeights(f"{source} does not hold the files that were packed: a checksum differs; {_HINT}")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    return folder


def _coded(data: bytes, strategy: int) -> Array:
    coder = zlib.compressobj(9, strategy=strategy)
    return np.frombuffer(coder.compress(data) + coder.flush(), dtype=np.uint8)


def _decoded(array: Array) -> bytes:
    return zlib.decompress(array.tobytes())


def _write(source: Path, folder: Path) -> None:
    """Write the files of a packed backbone into a folder."""
    tensors: dict[str, Array] = {}
    with source.open("rb") as file:
        packed = np.load(file, allow_pickle=False)
        if not isinstance(packed, NpzFile):
            raise ValueError("it is one array")
        for key in packed.files:
            kind, _, name = key.partition("/")
            if kind == "raw":
                tensors[name] = packed[key]
            elif kind == "bytes":
                indices = np.frombuffer(_decoded(packed[key]), dtype=np.uint8)
                tensors[name] = packed[f"values/{name}"][indices].reshape(packed[f"shape/{name}"])
            elif kind == "file":
                (folder / Path(name).name).write_bytes(_decoded(packed[key]))
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
