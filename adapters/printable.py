"""Printable text: which characters a text for people may contain, and how other characters are escaped.

A key's note, a template or a card is written by one tenant and read by an administrator or an operator. A control
character in it could move the reader's cursor, rename the window or hide a line.
"""

import json
import re
from collections.abc import Iterator, Mapping

from adapters.errors import InvalidAdapter

_ACTING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters other than tab and newline, line and paragraph separators, bidirectional controls, surrogates, and
the invisible tag characters."""
_ACTING_OR_LINES = re.compile(rf"[\t\n]|{_ACTING.pattern}")
RULE = "printable text: no control characters, escape sequences or changes of the writing direction"


def visible(text: str, encoding: str = "utf-8", *, lines: bool = True) -> str:
    r"""Return a text with an escape such as `\x1b` in place of each character that a terminal obeys or cannot print.

    Without `lines`, tabs and newlines are escaped too.
    """
    shown = (_ACTING if lines else _ACTING_OR_LINES).sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def json_visible(data: str) -> str:
    """Return JSON in which the characters that `visible` escapes are escaped as JSON allows."""
    return _ACTING.sub(lambda found: "".join(map("\\u{:04x}".format, _utf16(found[0]))), data)


def is_printable(text: str, *, lines: bool = False) -> bool:
    """Return whether a text has only printable characters; with `lines`, tabs and newlines are allowed too."""
    text = text.replace("\r\n", "\n") if lines else text
    return not (_ACTING if lines else _ACTING_OR_LINES).search(text)


def check_texts(files: Mapping[str, bytes]) -> None:
    """Refuse an adapter whose texts contain control characters. Takes files that `from_files` accepts.

    Raises:
        InvalidAdapter: names the file and the text
    """
    for name, data in files.items():
        if name.endswith(".json"):
            for place, text in _texts(json.loads(data)):
                if not is_printable(text, lines=True):
                    raise InvalidAdapter(f"{name}: {visible(place)[:200]}", repr(text[:200]), RULE)
        elif name.endswith(".md"):
            _check_document(name, data)


def _check_document(name: str, data: bytes) -> None:
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise InvalidAdapter(name, f"byte 0x{data[exc.start]:02x} at {exc.start}", "text in UTF-8") from exc
    found = _ACTING.search(text)
    if found is not None:
        raise InvalidAdapter(name, f"U+{ord(found[0]):04X} at {found.start()}", RULE)


def _texts(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON value, member names included, with its location."""
    if isinstance(value, str):
        yield place or "(whole)", value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            inner = f"{place}.{name}" if place else str(name)
            yield f"{inner} (name)", str(name)
            yield from _texts(member, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{place}.{index}")


def _utf16(character: str) -> tuple[int, ...]:
    """Return a character's UTF-16 code units, which JSON's escapes name."""
    data = character.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
