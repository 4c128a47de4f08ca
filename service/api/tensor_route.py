"""Binary tensors of the Open Inference Protocol: bytes after the JSON of a request or of a response.

KServe's binary tensor data extension: `Inference-Header-Content-Length` states the length of the JSON. A tensor with
`binary_data_size` in its parameters has its elements in that many of the following bytes, in the tensors' order. An
element of BYTES is its length, a little-endian unsigned integer of 4 bytes, and then its bytes; FP32 are little-endian;
a BOOL is one byte.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fastapi import Request

from service.api.schemas.open_inference import Datatype
from service.api.strict_route import StrictRequest, StrictRoute, max_items, max_values, read_json
from service.errors import InvalidRequest, MalformedBody
from service.pieces import PIECE_VALUES, map_in_pieces

HEADER_LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
OCTETS = "application/octet-stream"
_LENGTH = struct.Struct("<I")
_DIGITS = re.compile(r"[0-9]{1,10}")


class TensorRoute(StrictRoute):
    """A route whose JSON body may be followed by tensors, under any media type that it accepts."""

    def request_of(self, request: Request) -> StrictRequest:
        """Return the request without its media type: the framework parses no body of `OCTETS`."""
        headers = [header for header in request.scope["headers"] if header[0].lower() != b"content-type"]
        return TensorRequest({**request.scope, "headers": headers}, request.receive)


class TensorRequest(StrictRequest):
    """A request whose binary tensors are read as the texts that JSON would have."""

    def parse(self, body: bytes, max_rows: int) -> Any:
        """Return the JSON, with the texts of binary tensors as `data` (`MalformedBody`, `InvalidRequest`)."""
        stated = self.headers.getlist(HEADER_LENGTH)
        if not stated:
            return super().parse(body, max_rows)
        length = int(stated[0]) if len(stated) == 1 and _DIGITS.fullmatch(stated[0]) else -1
        if not 0 <= length <= len(body):
            shown = ", ".join(stated)[:100]
            raise MalformedBody(f"{HEADER_LENGTH} is {shown!r}, expected the bytes of the JSON, 0 to {len(body)}")
        value = read_json(body[:length], max_rows)
        _add_texts(value, memoryview(body)[length:], max_rows)
        return value


async def tensor_bytes(datatype: Datatype, data: Sequence[str] | Sequence[float] | Sequence[bool]) -> bytes:
    """Return the binary data of an output, in row-major order; other tasks run while a large one is encoded."""
    pieces = [data[first : first + PIECE_VALUES] for first in range(0, len(data), PIECE_VALUES)]
    return b"".join(await map_in_pieces(_ENCODERS[datatype], pieces, values_each=PIECE_VALUES))


def _byte_elements(texts: Sequence[Any]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(_LENGTH.pack(len(text)) + text for text in encoded)


_ENCODERS: dict[Datatype, Callable[[Sequence[Any]], bytes]] = {
    "BYTES": _byte_elements,
    "FP32": lambda values: np.asarray(values, "<f4").tobytes(),
    "BOOL": bytes,  # one byte each, 1 or 0
}


def _add_texts(value: object, tensors: memoryview, max_rows: int) -> None:
    """Replace `binary_data_size` of each input by its `data`."""
    inputs = value.get("inputs") if isinstance(value, dict) else None
    at, left = 0, max_values(max_rows)
    for each in inputs if isinstance(inputs, list) else ():
        size = _taken_size(each)
        if size is None:
            continue
        if size > len(tensors) - at:
            raise MalformedBody(
                f"{_name(each)} has {SIZE} {str(size)[:20]}, but {len(tensors) - at} bytes are left of the body"
            )
        if "data" in each:
            raise InvalidRequest(f"{_name(each)} has both data and {SIZE}, expected one of them")
        if each.get("datatype") == "BYTES":  # another type is refused by its name
            texts = _texts(tensors[at : at + size], _name(each), min(left, max_items(max_rows)))
            each["data"], left = texts, left - len(texts)
        at += size
    if at < len(tensors):
        raise MalformedBody(f"the body has {len(tensors) - at} bytes after its tensors, expected none")


def _taken_size(tensor: object) -> int | None:
    """Remove and return the size of a tensor's binary data; None for one in JSON, or of another form."""
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    if not isinstance(tensor, dict) or not isinstance(parameters, dict) or SIZE not in parameters:
        return None
    size = parameters.pop(SIZE)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidRequest(f"{_name(tensor)} has {SIZE} {str(size)[:20]}, expected a number of bytes")
    if not parameters:
        del tensor["parameters"]
    return size


def _texts(data: memoryview, name: str, most: int) -> list[str]:
    """Read the elements of a tensor of BYTES."""
    texts: list[str] = []
    at = 0
    while at < len(data):
        where = f"{name}, element {len(texts)}"
        if len(texts) == most:
            raise InvalidRequest(f"{name} has too many elements, expected at most {most}")
        if len(data) - at < _LENGTH.size:
            raise MalformedBody(f"{where} has {len(data) - at} bytes, expected a length of {_LENGTH.size} bytes")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise MalformedBody(f"{where} states {length} bytes, but {len(data) - at} are left of the tensor")
        try:
            texts.append(str(data[at : at + length], "utf-8"))
        except UnicodeDecodeError as exc:
            raise MalformedBody(f"{where} is not UTF-8: {exc.reason} at byte {exc.start}") from exc
        at += length
    return texts


def _name(tensor: dict[str, object]) -> str:
    return f"input {str(tensor.get('name'))[:100]!r}"
