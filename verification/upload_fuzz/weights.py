"""Mutations of an adapter's safetensors file. Most keep the rest intact, to pass the first checks."""

import json
import pickle
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from adapters.files import CONFIG, TENSOR, WEIGHTS

Files = dict[str, bytes]
FileMutation = Callable[[Random, Files], None]

_F32 = 4
_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
_SIZES = (0, 1, 7, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**64 - 1, 100_000_001)
_VALUES = (float("nan"), float("inf"), float("-inf"), 1e-42, 3.4e38, -3.4e38, 1e5, 1.1e5, 1e30, -0.0)


def _opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and tensor bytes of a file; those of an empty file if an earlier mutation broke it."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        if isinstance(header.get(TENSOR), dict):
            return header, data[8 + length :]
    except (ValueError, struct.error, RecursionError, AttributeError):
        pass
    return {TENSOR: {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]}}, b""


def _closed(header: dict[str, Any] | bytes, data: bytes, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(files: Files, shape: list[int], data: bytes, *, dtype: str = "F32") -> None:
    """Return the file of one tensor with correct offsets."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    files[WEIGHTS] = _closed({TENSOR: entry}, data)


def _configure(files: Files, **fields: object) -> None:
    try:
        config = json.loads(files[CONFIG])
        config.update(fields)
    except (ValueError, KeyError, AttributeError, RecursionError):
        return
    files[CONFIG] = json.dumps(config).encode()


def flip_bits(draw: Random, files: Files) -> None:
    data = bytearray(files[WEIGHTS])
    for _ in range(draw.randint(1, 16)):
        if data:
            data[draw.randrange(min(len(data), draw.choice((8, 128, len(data)))))] ^= 1 << draw.randrange(8)
    files[WEIGHTS] = bytes(data)


def cut_or_extend(draw: Random, files: Files) -> None:
    data = files[WEIGHTS]
    cut = data[: draw.randrange(len(data) + 1)]
    files[WEIGHTS] = draw.choice((cut, data[:-1], data + b"\0", data + draw.randbytes(draw.choice((1, 40, 4_000)))))


def lie_about_the_header(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    length = len(json.dumps(header)) + draw.randint(-9, 9) if draw.random() < 0.5 else draw.choice(_SIZES)
    files[WEIGHTS] = _closed(header, data, length=max(length, 0))


def change_shape(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    numbers = len(data) // _F32
    shapes: tuple[object, ...] = (
        [draw.choice(_SIZES), draw.choice(_SIZES)],
        [numbers],
        [1, 1, numbers],
        [1] * draw.choice((3, 64, 5_000)) + [numbers],
        [],
        [-1, -numbers],
        [1.0, numbers],
        ["1", numbers],
        [numbers, 1],
        None,
        {"0": 1},
    )
    header[TENSOR]["shape"] = draw.choice(shapes)
    files[WEIGHTS] = _closed(header, data)


def change_offsets(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    end = len(data)
    offsets = ([0, end - 1], [1, end], [end, 0], [0, 2 * end], [-1, end - 1], [0, draw.choice(_SIZES)], [0], [], "0")
    header[TENSOR]["data_offsets"] = draw.choice(offsets)
    files[WEIGHTS] = _closed(header, data)


def change_dtype(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    dtype = draw.choice((*_DTYPES, "f32", "F4", "", "F128", None, 32))
    if draw.random() < 0.8 and dtype in _DTYPES:
        shape = header[TENSOR]["shape"]
        numbers = len(data) // _F32
        _tensor(files, shape, draw.randbytes(numbers * _DTYPES[str(dtype)]), dtype=str(dtype))
    else:
        header[TENSOR]["dtype"] = dtype
        files[WEIGHTS] = _closed(header, data)


def change_tensors(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    entry, end = header[TENSOR], len(data)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
    name = draw.choice(("prompt", "", TENSOR.upper(), TENSOR + "\0", "ä" * 500, "__metadata__", "x" * 50_000))
    changed: tuple[dict[str, Any] | bytes, ...] = (
        header | {name: empty},
        header | {name: entry},
        {name: entry},
        {},
        header | {f"t{number}": empty for number in range(draw.choice((2, 300, 5_000)))},
        header | {"__metadata__": draw.choice(({"a": "b"}, {"a": 1}, [], {str(n): "x" * 9 for n in range(3_000)}))},
        json.dumps(header).encode()[:-1] + b"," + json.dumps({TENSOR: entry}).encode()[1:],
        json.dumps(header).encode()[:-1] + b',"' + TENSOR.encode() + b'":' + json.dumps(empty).encode() + b"}",
        header | {TENSOR: entry | {"extra": 1}},
        header | {TENSOR: [entry]},
    )
    files[WEIGHTS] = _closed(draw.choice(changed), data)


def respell_the_header(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    text = json.dumps(header).encode()
    texts = (
        text + b" " * draw.choice((1, 8, 100_000)),
        b" " * 64 + text,
        b"\xef\xbb\xbf" + text,
        text.decode().encode("utf-16"),
        b"[" * draw.choice((100, 50_000)),
        b'{"a":' * draw.choice((100, 50_000)),
        text.replace(b"F32", b"F32\\u0000"),
        text.replace(b"0", b"0e0", 1),
        text.replace(b"prompt", b"\\u0070rompt"),
        b"null",
    )
    files[WEIGHTS] = _closed(draw.choice(texts), data)


def change_values(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    numbers = bytearray(data[: len(data) // _F32 * _F32])
    count = len(numbers) // _F32
    for _ in range(draw.choice((1, 1, 5, min(count, 5_000)))):
        if count:
            struct.pack_into("<f", numbers, _F32 * draw.randrange(count), draw.choice(_VALUES))
    files[WEIGHTS] = _closed(header, bytes(numbers))


def change_norms(draw: Random, files: Files) -> None:
    header, data = _opened(files[WEIGHTS])
    count = len(data) // _F32
    number = draw.choice((0.0, 1e-45, 1e-20, 100.0, 2e3, 1e4, 99_000.0, 1e6, 1e19, 3e38)) * draw.choice((1, -1))
    values = [number * draw.random() if draw.random() < 0.9 else 0.0 for _ in range(count)]
    files[WEIGHTS] = _closed(header, struct.pack(f"<{count}f", *values))


def change_rows(draw: Random, files: Files) -> None:
    """Change the number of virtual tokens, optionally in the configuration too."""
    header, data = _opened(files[WEIGHTS])
    shape = header[TENSOR]["shape"]
    width = shape[1] if isinstance(shape, list) and len(shape) == 2 and isinstance(shape[1], int) else 8
    width = width if 0 < width <= 4_096 else 8
    rows = draw.choice((0, 1, 2, 50, 100, 101, 200))
    repeated = (data + bytes(_F32)) * (rows * width * _F32 // (len(data) + _F32) + 1)
    _tensor(files, [rows, width], repeated[: rows * width * _F32])
    if draw.random() < 0.8:
        _configure(files, num_virtual_tokens=rows)
    if draw.random() < 0.2:
        _configure(files, num_virtual_tokens=rows // 2, num_transformer_submodules=draw.choice((2, None, 3, True)))


def change_width(draw: Random, files: Files) -> None:
    width = draw.choice((0, 1, 16, 31, 33, 512, 768, 4_096, 10_000))
    _tensor(files, [10, width], bytes(10 * width * _F32))
    if draw.random() < 0.8:
        _configure(files, token_dim=width, num_virtual_tokens=10)


def another_format(draw: Random, files: Files) -> None:
    formats = (
        b"",
        pickle.dumps({TENSOR: [0.0]}),
        b"PK\x03\x04" + bytes(60),
        b"\x93NUMPY" + bytes(80),
        b"GGUF" + bytes(80),
    )
    files[WEIGHTS] = draw.choice((*formats, bytes(8), draw.randbytes(400), b"\x1f\x8b" + bytes(80)))


def oversize(draw: Random, files: Files) -> None:
    """Pad the file with zeros to about its maximum size."""
    header, data = _opened(files[WEIGHTS])
    limit = 4 << 20
    size = limit + draw.choice((-1, 0, 1, 70_000)) - len(_closed(header, data))
    files[WEIGHTS] = _closed(header, data) + bytes(max(size, 0))


WEIGHT_MUTATIONS: tuple[FileMutation, ...] = (
    flip_bits,
    cut_or_extend,
    lie_about_the_header,
    change_shape,
    change_offsets,
    change_dtype,
    change_tensors,
    respell_the_header,
    change_values,
    change_norms,
    change_rows,
    change_width,
    another_format,
    oversize,
)
