"""A template's words around users' fields, as the tokenizer reads them, and what is cut where a text is too long."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """A template's literals and the fields between them. Built by `TextTokenizer.frame`."""

    literals: tuple[str, ...]
    """One more than there are placeholders."""
    placeholders: tuple[str, ...]
    """The field of each; a field may have several."""
    num_tokens: int = 0
    """Tokens of the literals alone."""

    def fill(self, values: Sequence[str]) -> "FramedText":
        """Put the fields' texts, one per placeholder, between the literals."""
        parts = [self.literals[0]]
        for value, literal in zip(values, self.literals[1:], strict=True):
            parts += (value, literal)
        return FramedText(self, tuple(values), "".join(parts))


PLAIN = Frame(("", ""), ("text",))
"""A text without a template."""


@dataclass(frozen=True, slots=True)
class FramedText:
    """One text for the model, which still knows its fields."""

    frame: Frame
    values: tuple[str, ...]
    text: str

    def __len__(self) -> int:
        """Characters."""
        return len(self.text)

    @property
    def key(self) -> str:
        """Differs for texts that can be cut differently: those with other fields, and not only other text."""
        if len(self.values) == 1:
            return self.text
        return f"{self.text}\0{','.join(str(len(value)) for value in self.values)}"

    def spans(self) -> list[tuple[int, int]]:
        """Return the first character of each field, and the one after its last."""
        spans, end = [], 0
        for literal, value in zip(self.frame.literals, self.values, strict=False):
            start = end + len(literal)
            end = start + len(value)
            spans.append((start, end))
        return spans


def kept_lengths(lengths: Sequence[int], room: int) -> list[int]:
    """Share `room` tokens among fields of some lengths: the longest is cut first, down to the next longest."""
    kept, room = [0] * len(lengths), max(0, room)
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    for position, field in enumerate(by_length):
        kept[field] = min(lengths[field], room // (len(lengths) - position))
        room -= kept[field]
    return kept
