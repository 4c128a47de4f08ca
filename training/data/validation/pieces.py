"""Checks of the rows as the model reads them: characters without a piece, rows of the same pieces, Unicode forms."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.data.examples import Example
from training.data.validation.findings import Finding, finding, shortened
from training.data.validation.rows import PlacedExample, Sheet
from training.errors import InvalidData

if TYPE_CHECKING:
    from backbone import TokenizedText

_AT_ONCE = 4_096
"""Rows per call of the tokenizer, whose intermediate results take far more memory than the ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """The backbone's view of a task: its tokenizer, as training calls it."""

    pieces: Callable[[Sequence[str]], list[list[int]]]
    """Returns the token ids of label words."""
    rows: "Callable[[Sequence[Example]], Sequence[TokenizedText]]"
    """Tokenises and truncates rows; raises `InvalidData` for a row that it cannot truncate."""
    fields: "Callable[[Sequence[str]], Sequence[TokenizedText]]"
    """Tokenises the texts of fields, without a template or a limit."""
    refusal: Callable[[], str | None]
    """Returns why no label trie can be built from the task's words, or None."""
    unknown_id: int | None
    """The token id of characters that the vocabulary lacks."""
    notable_share: float
    """Share of a text's characters without a piece from which on its answer means little."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row and its tokens."""

    row: PlacedExample
    tokens: "TokenizedText"


def model_findings(sheets: Sequence[Sheet], view: ModelView, *, max_tokens: int) -> list[Finding]:
    """Find rows that the model reads otherwise than a person: in part, not at all, or like another row."""
    found, read = [], []
    for sheet in sheets:
        faults: list[str] = []
        rows = list(_read(sheet, view, faults))
        read += rows
        found += finding("error", "untruncatable", f"{sheet.role}: rows that cannot be truncated", faults)
        found += _unread(sheet.role, rows, view)
        found += _decomposed(sheet.role, rows, view)
        found += _truncated(sheet.role, rows, max_tokens)
    return [*found, *_same_tokens(read)]


def _read(sheet: Sheet, view: ModelView, faults: list[str]) -> Iterator[ReadRow]:
    for start in range(0, len(sheet.examples), _AT_ONCE):
        rows = sheet.examples[start : start + _AT_ONCE]
        try:
            yield from map(ReadRow, rows, view.rows([row.example for row in rows]))
        except InvalidData:
            for row in rows:
                try:
                    yield ReadRow(row, view.rows([row.example])[0])
                except InvalidData as exc:
                    faults.append(f"{row.place}: {exc}")


def _unread(role: str, rows: Sequence[ReadRow], view: ModelView) -> list[Finding]:
    """Find fields with many characters that the vocabulary lacks, and rows of which nothing is read."""
    suspects = [each for each in rows if each.tokens.unknown_share > 0]
    places: dict[str, list[str]] = {}
    unread, visible = Counter[str](), Counter[str]()
    for each in rows:
        for name, text in each.row.example.fields.items():
            visible[name] += len("".join(text.split()))
    names = list(visible)
    for start in range(0, len(suspects), _AT_ONCE):
        part = suspects[start : start + _AT_ONCE]
        # a field such as a paragraph may be that of many rows
        texts = list(dict.fromkeys(text for each in part for text in each.row.example.fields.values()))
        shares = {text: read.unknown_share for text, read in zip(texts, view.fields(texts), strict=True)}
        for each in part:
            for name, text in each.row.example.fields.items():
                share = shares[text]
                unread[name] += round(share * len("".join(text.split())))
                if share > view.notable_share:
                    places.setdefault(name, []).append(f"{each.row.place}: {100 * share:.0f} % of {shortened(text)}")
    found = []
    for name in names:
        share = unread[name] / max(1, visible[name])
        message = (
            f"{role}: the backbone's vocabulary lacks {100 * share:.1f} % of the characters of field {name!r}; "
            f"rows of which it lacks more than {100 * view.notable_share:.0f} %"
        )
        found += finding("warning", "unread-text", message, places.get(name, []))
    blank = [
        f"{each.row.place}: {shortened(each.row.example.text)}"
        for each in rows
        if each.tokens.is_empty and any(text.strip() for text in each.row.example.fields.values())
    ]
    return [*found, *finding("warning", "unread-row", f"{role}: rows of which the model reads nothing", blank)]


def _decomposed(role: str, rows: Sequence[ReadRow], view: ModelView) -> list[Finding]:
    """Find texts that the model reads otherwise than the same text in composed Unicode (NFC)."""
    suspects = [each for each in rows if not unicodedata.is_normalized("NFC", each.row.example.text)]
    places = []
    for start in range(0, len(suspects), _AT_ONCE):
        part = suspects[start : start + _AT_ONCE]
        texts = [each.row.example.text for each in part]
        composed = view.fields([unicodedata.normalize("NFC", text) for text in texts])
        for each, text, ours, theirs in zip(part, texts, view.fields(texts), composed, strict=True):
            if ours.token_ids != theirs.token_ids:
                places.append(
                    f"{each.row.place}: {ours.num_tokens} tokens, {theirs.num_tokens} composed: {shortened(text)}"
                )
    message = f"{role}: texts in decomposed Unicode, which the model reads as other tokens than the same text in NFC"
    return finding("warning", "decomposed-text", message, places)


def _truncated(role: str, rows: Sequence[ReadRow], max_tokens: int) -> list[Finding]:
    """Find rows that training and evaluation truncate, and that a server truncates or rejects."""
    places = [
        f"{each.row.place}: {length} tokens, {shortened(each.row.example.text)}"
        for each in rows
        if (length := each.tokens.num_tokens + sum(each.tokens.lost_tokens.values())) > max_tokens
    ]
    share = len(places) / max(1, len(rows))
    return finding(
        "warning", "truncated", f"{role}: {100 * share:.1f} % of the texts have more than {max_tokens} tokens", places
    )


def _same_tokens(rows: Sequence[ReadRow]) -> list[Finding]:
    """Find rows that differ as texts, but not as tokens: the model cannot distinguish them."""
    seen: dict[tuple[int, ...], PlacedExample] = {}
    places = []
    for each in rows:
        first = seen.setdefault(each.tokens.token_ids, each.row)
        if first.key != each.row.key:
            other = " under another label" if first.example.label != each.row.example.label else ""
            ours, theirs = shortened(each.row.example.text), shortened(first.example.text)
            places.append((not other, f"{each.row.place} reads like {first.place}{other}: {ours} and {theirs}"))
    places.sort(key=lambda place: place[0])  # stable: conflicts first
    message = "different texts with the same tokens, which the model cannot distinguish"
    return finding("warning", "same-tokens", message, [place for _, place in places])
