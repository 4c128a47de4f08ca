"""Tokenizer of the backbone: text to token ids. Texts are truncated only here, field by field."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from tokenizers import Encoding

from backbone.control_tokens import without_control_tokens
from backbone.errors import NoRoomForFields, TextTooLong
from backbone.framing import PLAIN, Frame, FramedText, kept_lengths

Truncation = Literal["error", "start", "end"]

NOTABLE_UNKNOWN_SHARE = 0.1
"""Share of a text's characters without a piece from which on its answer means little."""
_SPACES = ("▁", "Ġ")
"""Pieces that stand for white space alone."""


_NONE: Mapping[str, int] = MappingProxyType({})
"""One object for all texts that lost nothing."""

MIN_FIELD_TOKENS = 8
"""Tokens that truncation leaves of every field; fewer under a limit below 128 tokens, see `min_field_tokens`."""


def min_field_tokens(max_tokens: int) -> int:
    """Return how many tokens of a longer field must be kept: a sixteenth of the limit, 1 to `MIN_FIELD_TOKENS`."""
    return min(MIN_FIELD_TOKENS, max(1, max_tokens // 16))


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Tokenized text, ready for the encoder."""

    token_ids: tuple[int, ...]  # [T], the end-of-sequence token last
    lost_tokens: Mapping[str, int] = field(default_factory=lambda: _NONE)
    """Tokens that truncation cut, by field; fields that lost none are left out."""
    unknown_share: float = 0.0
    """Share of the fields' visible characters, as far as they were kept, that the vocabulary has no piece for."""
    is_empty: bool = False
    """No field has a visible character that the model reads."""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def truncated(self) -> bool:
        return bool(self.lost_tokens)


class TextTokenizer:
    """Fast tokenizer that does not truncate or pad implicitly, and finds no control tokens in fields.

    Args:
        tokenizer_json: the content of a `tokenizer.json`
    """

    def __init__(self, tokenizer_json: str, *, eos_id: int) -> None:
        self._tokenizer, self._control_names, self.unknown_id = without_control_tokens(tokenizer_json)
        spellings = sorted(self._control_names, key=len, reverse=True)
        self._control_tokens = re.compile("|".join(map(re.escape, spellings)) or "(?!)")
        self._eos_id = eos_id
        self._space_ids = {self._tokenizer.token_to_id(piece) for piece in _SPACES} - {None}
        self._shared_frame = lru_cache(maxsize=1_024)(self._make_frame)

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Return token ids of a task's own words, which may name control tokens, without the end-of-sequence token."""
        return self._ids([self._named(each) for each in words])

    def piece(self, token_id: int) -> str:
        """Return the piece of a token id, with `▁` at the start of a word; empty for an id that only pads the table."""
        return self._spelled(self._tokenizer.id_to_token(token_id) or "")

    def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return self._spelled(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def frame(self, literals: Sequence[str], placeholders: Sequence[str]) -> Frame:
        """Return a template, whose literals may name control tokens, in the form that its fields are put into.

        Args:
            literals: the words before, between and after the placeholders
            placeholders: the field of each

        Returns:
            one object for equal arguments
        """
        return self._shared_frame(tuple(literals), tuple(placeholders))

    def tokenize(
        self, texts: Sequence[FramedText | str], *, max_tokens: int, truncation: Truncation
    ) -> list[TokenizedText]:
        """Return at most `max_tokens` token ids of each text, the end-of-sequence token included.

        Args:
            texts: filled frames; a string is a field without a template
            truncation: for a longer text, `error` refuses it, `start` drops the first tokens of its longest fields,
                `end` their last. The template's own words are never cut.

        Raises:
            TextTooLong: a text is longer and `truncation` is `error`, or too little of a field would remain; the error
                has its index
        """
        framed = [PLAIN.fill((text,)) if isinstance(text, str) else text for text in texts]
        return [
            self.fit(index, text, ids, max_tokens, truncation)
            for index, (text, ids) in enumerate(zip(framed, self.ids(framed), strict=True))
        ]

    def ids(self, texts: Sequence[FramedText]) -> list[list[int]]:
        """Return token ids of whole texts, for `fit`."""
        return self._ids([text.text for text in texts])

    def fit(
        self, index: int, text: FramedText, ids: list[int], max_tokens: int, truncation: Truncation
    ) -> TokenizedText:
        """Terminate, truncate or refuse the token ids of one text as `tokenize` does; the error reports `index`."""
        is_whole = len(ids) < max_tokens
        if is_whole and self.unknown_id not in ids and not self._may_be_empty(text, ids):
            return TokenizedText((*ids, self._eos_id))
        if not is_whole and truncation == "error":
            raise TextTooLong(index, len(ids) + 1, max_tokens)
        return self._by_fields(index, text, max_tokens, truncation)

    def _make_frame(self, literals: tuple[str, ...], placeholders: tuple[str, ...]) -> Frame:
        named = tuple(map(self._named, literals))
        (ids,) = self._ids(["".join(named)])
        return Frame(named, placeholders, len(ids))

    def _named(self, words: str) -> str:
        """Return a task's own words in the form in which the tokenizer finds their control tokens."""
        return self._control_tokens.sub(lambda found: self._control_names[found[0]], words)

    def _spelled(self, text: str) -> str:
        """Return a text of the tokenizer with the control tokens' own spelling."""
        for token, name in self._control_names.items():
            text = text.replace(name, token)
        return text

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def _may_be_empty(self, text: FramedText, ids: Sequence[int]) -> bool:
        """Return whether the fields must be looked at: blank ones, or hardly more tokens than the template's own."""
        if all(not value or value.isspace() for value in text.values):
            return True
        # at both ends of a field, the template's words can be split otherwise
        num_words = len(ids) - sum(map(ids.count, self._space_ids))
        return num_words <= text.frame.num_tokens + 2 * len(text.values)

    def _by_fields(self, index: int, text: FramedText, max_tokens: int, truncation: Truncation) -> TokenizedText:
        """Tokenize a text again with the place of each token: to cut its fields, or to look for unknown pieces."""
        # takes 1.4 times as long as without places
        encoding = self._tokenizer.encode(text.text, add_special_tokens=False)
        if len(encoding) >= max_tokens:
            return self._cut(index, text, encoding, max_tokens, truncation)
        reading = self._reading(encoding, text, text.spans(), range(len(encoding)))
        return TokenizedText((*encoding.ids, self._eos_id), _NONE, *reading)

    def _cut(
        self, index: int, text: FramedText, encoding: Encoding, max_tokens: int, truncation: Truncation
    ) -> TokenizedText:
        """Cut the longest fields of a text, and refuse it if too little of one would remain."""
        fields = [_tokens_of(encoding, text.text, span) for span in text.spans()]
        room = max_tokens - 1 - len(encoding) + sum(map(len, fields))
        lengths = kept_lengths([len(tokens) for tokens in fields], room)
        lost: dict[str, int] = {}
        token_ids: list[int] = []
        read, windows, end = set[int](), list[tuple[int, int]](), 0
        ids = encoding.ids
        for name, whole, length, span in zip(text.frame.placeholders, fields, lengths, text.spans(), strict=True):
            if length < min(len(whole), min_field_tokens(max_tokens)):
                raise NoRoomForFields(index, len(ids) + 1, max_tokens, field=name, left=length)
            part, window = whole, span
            if length < len(whole):
                lost[name] = lost.get(name, 0) + len(whole) - length
                part = whole[:length] if truncation == "end" else whole[len(whole) - length :]
                window = _chars(encoding, part[0])[0], _chars(encoding, part[-1])[1]
            token_ids += ids[end : whole.start] + ids[part.start : part.stop]
            end = whole.stop
            # with the neighbours, which may share a piece with the template
            read |= set(range(max(part.start - 1, 0), min(part.stop + 1, len(ids))))
            windows.append((max(window[0], span[0]), min(window[1], span[1])))
        token_ids += ids[end:]
        if len(token_ids) >= max_tokens:
            raise NoRoomForFields(index, len(ids) + 1, max_tokens, field=text.frame.placeholders[0], left=0)
        return TokenizedText((*token_ids, self._eos_id), lost, *self._reading(encoding, text, windows, sorted(read)))

    def _reading(
        self, encoding: Encoding, text: FramedText, windows: Sequence[tuple[int, int]], tokens: Sequence[int]
    ) -> tuple[float, bool]:
        """Return the share of visible characters without a piece, and whether nothing visible is read.

        Args:
            windows: the characters of each field that are read
            tokens: all tokens that may cover them
        """
        ids, may_be_empty = encoding.ids, self._may_be_empty(text, encoding.ids)
        unknown, is_empty = 0, may_be_empty
        for token in tokens:
            if ids[token] == self.unknown_id or may_be_empty:
                first, last = _chars(encoding, token)
                covered = sum(_num_visible(text.text[max(start, first) : min(end, last)]) for start, end in windows)
                unknown += covered if ids[token] == self.unknown_id else 0
                is_empty &= not covered or ids[token] in self._space_ids
        visible = sum(_num_visible(text.text[start:end]) for start, end in windows)
        return min(1.0, unknown / visible) if visible else 0.0, is_empty


def _tokens_of(encoding: Encoding, text: str, span: tuple[int, int]) -> range:
    """Return the tokens of a field, without those that also spell a word of the template."""
    start, end = span
    if start == end:
        place = bisect_left(range(len(encoding)), start, key=lambda token: _chars(encoding, token)[0])
        return range(place, place)
    first = bisect_left(range(len(encoding)), start, key=lambda token: _chars(encoding, token)[0])
    last = bisect_left(range(len(encoding)), end, key=lambda token: _chars(encoding, token)[0])
    if first > 0:
        before, after = _chars(encoding, first - 1)
        if after > start and text[before:start].isspace():  # the space in front of a word is part of its piece
            first -= 1
    if last > first:
        after = _chars(encoding, last - 1)[1]
        if after > end and not text[end:after].isspace():
            last -= 1
    return range(first, max(first, last))


def _chars(encoding: Encoding, token: int) -> tuple[int, int]:
    """Return the first character of a token, and the one after its last."""
    place: tuple[int, int] | None = encoding.token_to_chars(token)
    assert place is not None, "every token is of the text"
    return place


def _num_visible(text: str) -> int:
    return sum(letter.isprintable() and not letter.isspace() for letter in text)
