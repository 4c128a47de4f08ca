"""Tokenizer of the backbone: text to token ids. Texts are truncated only here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer

from backbone.errors import TextTooLong

Truncation = Literal["error", "start", "end"]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Tokenized text, ready for the encoder."""

    token_ids: tuple[int, ...]  # [T], the end-of-sequence token last
    truncated: bool

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


class TextTokenizer:
    """Fast tokenizer that does not truncate or pad implicitly."""

    def __init__(self, tokenizer: Tokenizer, *, eos_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._eos_id = tokenizer, eos_id

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of each text, without the end-of-sequence token."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def piece(self, token_id: int) -> str:
        """Return the piece of a token id, with `▁` at the start of a word; empty for an id that only pads the table."""
        return self._tokenizer.id_to_token(token_id) or ""

    def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def tokenize(self, texts: Sequence[str], *, max_tokens: int, truncation: Truncation) -> list[TokenizedText]:
        """Return at most `max_tokens` token ids of each text, the end-of-sequence token included.

        Args:
            truncation: for a longer text, `error` refuses it, `start` drops its first tokens, `end` its last.

        Raises:
            TextTooLong: a text is longer and `truncation` is `error`; the error has its index.
        """
        return [self.fit(index, ids, max_tokens, truncation) for index, ids in enumerate(self.pieces(texts))]

    def fit(self, index: int, ids: list[int], max_tokens: int, truncation: Truncation) -> TokenizedText:
        """Terminate, truncate or refuse the pieces of one text as `tokenize` does; the error reports `index`."""
        if len(ids) < max_tokens:
            return TokenizedText((*ids, self._eos_id), truncated=False)
        if truncation == "error":
            raise TextTooLong(index, len(ids) + 1, max_tokens)
        kept = ids[: max_tokens - 1] if truncation == "end" else ids[len(ids) - max_tokens + 1 :]
        return TokenizedText((*kept, self._eos_id), truncated=True)
