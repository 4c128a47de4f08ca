"""The backbone's tokenizer: text to token ids, and the one place where a text is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer

from backbone.errors import TextTooLong

Truncation = Literal["error", "start", "end"]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text ready for the encoder."""

    token_ids: tuple[int, ...]  # [T], the end-of-sequence token last
    truncated: bool

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


class TextTokenizer:
    """A fast tokenizer that never cuts or pads by itself."""

    def __init__(self, tokenizer: Tokenizer, *, eos_id: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._eos_id = tokenizer, eos_id

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without the end-of-sequence token."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def piece(self, token_id: int) -> str:
        """The vocabulary's piece of a token id, `▁` where a word starts; empty for an id that only pads the table."""
        return self._tokenizer.id_to_token(token_id) or ""

    def text(self, token_ids: Sequence[int]) -> str:
        """What token ids spell, special tokens left out."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def tokenize(self, texts: Sequence[str], *, max_tokens: int, truncation: Truncation) -> list[TokenizedText]:
        """Token ids of each text with the end-of-sequence token, at most `max_tokens` of them.

        Args:
            truncation: what to do with a longer text: `error` refuses it, `start` drops its first tokens,
                `end` its last.

        Raises:
            TextTooLong: a longer text under `error`; it says which.
        """
        return [self.fit(index, ids, max_tokens, truncation) for index, ids in enumerate(self.pieces(texts))]

    def fit(self, index: int, ids: list[int], max_tokens: int, truncation: Truncation) -> TokenizedText:
        """One text's pieces ended, cut or refused as `tokenize` does; `index` is for the refusal alone."""
        if len(ids) < max_tokens:
            return TokenizedText((*ids, self._eos_id), truncated=False)
        if truncation == "error":
            raise TextTooLong(index, len(ids) + 1, max_tokens)
        kept = ids[: max_tokens - 1] if truncation == "end" else ids[len(ids) - max_tokens + 1 :]
        return TokenizedText((*kept, self._eos_id), truncated=True)
