"""The text of a data file, in its declared, marked or detected encoding, and the place of bytes that do not fit."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import from_bytes

from adapters.regular_files import open_regular
from training.errors import InvalidData

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks; that of UTF-32-LE begins with that of UTF-16-LE."""
_LEGACY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "koi8_r"),
    *("cp932", "gb18030", "big5", "cp949"),
)
"""The encodings that spreadsheets write. More candidates make the guess worse: French would be read as `mac_latin2`."""
_BLOCK = 1 << 20
_SAMPLE = 65_536
"""Bytes of lines with other characters than ASCII that an encoding is guessed from."""
_IS_LANGUAGE = 0.2
"""The least coherence (charset-normalizer: letter frequencies of a language) of a guess."""


@dataclass(frozen=True, slots=True)
class DecodedText:
    """The text of a file, without a byte-order mark."""

    text: str
    encoding: str
    is_guess: bool = False
    """Whether nothing but the bytes' statistics names the encoding."""


def decoded(data: bytes, path: Path, *, encoding: str | None, is_utf8: bool = False) -> DecodedText:
    """Decode a file.

    Args:
        encoding: the declared one; if omitted, that of the byte-order mark, else UTF-8, UTF-16 or a guess
        is_utf8: whether the file's format asks for UTF-8. Then nothing is guessed, and a byte that does not fit becomes
            a surrogate (`surrogateescape`), for `place_of_escaped`

    Raises:
        InvalidData: the bytes are not in that encoding, or it cannot be guessed; names line, column and byte
    """
    mark = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is not None:
        return _as_declared(data, path, encoding, mark)
    if mark is not None and mark[1] != "utf-8":
        return DecodedText(_strict(data[len(mark[0]) :], path, mark[1]), mark[1])
    if (wide := _unmarked_utf16(data)) is not None:
        return DecodedText(_strict(data, path, wide), wide, is_guess=True)
    try:
        return DecodedText(data.decode("utf-8-sig", "surrogateescape" if is_utf8 else "strict"), "utf-8")
    except UnicodeDecodeError as exc:
        if mark is not None:
            return DecodedText(_strict(data, path, "utf-8"), "utf-8")  # raises
        return _guessed(data, path, exc)


def stream_encoding(path: Path, *, is_utf8: bool) -> str:
    """Return the encoding in which Python reads a file piece by piece, with `surrogateescape` for UTF-8.

    It is that of `decoded`, except that a file is UTF-8 if most of its characters are. Only a file in another encoding
    is read into memory, to guess it.

    Args:
        path: the file
        is_utf8: whether the file's format asks for UTF-8

    Raises:
        InvalidData: the encoding cannot be guessed
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_regular(path) as file:
        head = file.read(_BLOCK)
        mark = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if mark is not None:
            return "utf-8-sig" if mark == "utf-8" else mark[:6]  # with its mark, which says the order of the bytes
        if (wide := _unmarked_utf16(head)) is not None or is_utf8:
            return wide or "utf-8"
        try:
            while head:
                decoder.decode(head)
                head = file.read(_BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            data = file.read()
        else:
            return "utf-8"
    return "utf-8" if _is_damaged_utf8(data) else decoded(data, path, encoding=None).encoding


_ESCAPED = re.compile("[\udc80-\udcff]")


def place_of_escaped(line: str) -> str | None:
    """Return `column 7: byte 0xE9` for a byte of a line that is not UTF-8, or None."""
    found = _ESCAPED.search(line)
    return None if found is None else f"column {found.start() + 1}: byte 0x{ord(found[0]) - 0xDC00:02X}"


def _as_declared(data: bytes, path: Path, encoding: str, mark: tuple[bytes, str] | None) -> DecodedText:
    text = _strict(data, path, encoding)
    if mark is not None and text.startswith("\ufeff"):
        text = text[1:]
    elif mark is not None and encoding.replace("_", "-") not in ("utf-8-sig", "utf-16", "utf-32"):
        raise InvalidData(
            f"{path}: line 1, column 1: the byte-order mark of {mark[1]} contradicts data.encoding, {encoding!r}; "
            "omit data.encoding to follow the mark"
        )
    return DecodedText(text, encoding)


def _strict(data: bytes, path: Path, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        name = encoding.upper() if encoding.startswith("utf") else encoding
        raise InvalidData(f"{path}: {_place_of_byte(data, exc)} is not {name}; {_remedy()}") from exc


def _remedy(example: str = "cp1252") -> str:
    return f"set data.encoding in the task file (--encoding of task init), for example to {example}"


def _place_of_byte(data: bytes, exc: UnicodeDecodeError) -> str:
    """Return `line 3, column 7: byte 0xE9` for the byte that cannot be decoded."""
    before = data[: exc.start].decode(exc.encoding, errors="replace").removeprefix("\ufeff")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return f"line {line}, column {column}: byte 0x{data[exc.start]:02X}"


def _unmarked_utf16(data: bytes) -> str | None:
    """Return the byte order if the first line is ASCII in UTF-16: every other byte is zero."""
    head = data[:64].partition(b"\n")[0]
    pairs = len(head) // 2
    zeros = [head[offset : 2 * pairs : 2].count(0) for offset in (0, 1)]
    if pairs < 2 or sorted(zeros) != [0, pairs]:
        return None
    return "utf-16-be" if zeros[0] else "utf-16-le"


def _guessed(data: bytes, path: Path, fault: UnicodeDecodeError) -> DecodedText:
    """Decode a file that is not UTF-8 by the statistics of its lines with other characters than ASCII."""
    wrong = f"{path}: {_place_of_byte(data, fault)} is not UTF-8"
    if _is_damaged_utf8(data):
        raise InvalidData(f"{wrong}, but the text around it is; correct it, or {_remedy()}") from fault
    candidates, is_certain = _candidates(data)
    if not is_certain:
        might = f": it may be {', '.join(candidates)}" if candidates else ""
        raise InvalidData(f"{wrong}, and its encoding is not certain{might}; {_remedy(*candidates[:1])}") from fault
    return DecodedText(_strict(data, path, candidates[0]), candidates[0], is_guess=True)


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether the valid characters of UTF-8 beyond ASCII outnumber the bytes that do not fit."""
    text = data.decode(errors="surrogateescape")
    others = [char for char in text if char > "\x7f"]
    invalid = sum("\udc80" <= char <= "\udcff" for char in others)
    return invalid < len(others) - invalid


def _candidates(data: bytes) -> tuple[list[str], bool]:
    """Return the encodings that may be meant, the likeliest first, and whether the first is certain enough.

    It is if it reads like a language, and either all others read far worse or it is Windows-1252 and as good as any:
    browsers assume it too.
    """
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)
    if len(sample) > _SAMPLE:
        sample = sample[: sample.rfind(b"\n", 0, _SAMPLE) + 1] or sample
    found = list(from_bytes(sample, cp_isolation=list(_LEGACY)))
    # encodings of one reading are named after the first of `_LEGACY`
    near = {
        min(map(_LEGACY.index, {each.encoding, *each.could_be_from_charset} & {*_LEGACY})): each.coherence
        for each in found
        if each.chaos <= found[0].chaos + 0.02
    }
    names = [_LEGACY[index] for index in sorted(near, key=lambda index: (-near[index], index))]
    is_language = max(near.values(), default=0) >= _IS_LANGUAGE
    return names, is_language and (len(names) == 1 or names[0] == "cp1252")
