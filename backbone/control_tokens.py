"""Control tokens of a tokenizer, such as `</s>` and `<extra_id_0>`, under names that no user's text contains.

A tokenizer matches them in any text, in two places: its added tokens, and its model's vocabulary, where `＜/s＞`
becomes `</s>` by normalisation. Both get a random name per process, so that only `TextTokenizer` can write one. Ids,
scores and all other pieces stay as they are.
"""

import json
import re
import secrets

from tokenizers import Tokenizer

_RESERVED = re.compile(r"▁?<(?:/?s|pad|unk|mask|extra_id_\d+)>")
"""T5's control tokens, which some vocabularies contain without marking them as special."""
_MARK = re.compile(r"\s*[^\w\s].*\w.*[^\w\s]\s*", re.DOTALL)
"""`<hl>`, `[SEP]`: added to a T5 as ordinary tokens, and written as no word is. `{` and `covid` stay vocabulary."""


def without_control_tokens(tokenizer_json: str) -> tuple[Tokenizer, dict[str, str], int | None]:
    """Build a tokenizer that finds no control token in a text.

    Args:
        tokenizer_json: the content of a `tokenizer.json`

    Returns:
        The tokenizer, without truncation, padding and post-processing; the name of each control token by its
        spelling; the id of its unknown piece.

    Raises:
        ValueError: it is not the JSON of a tokenizer
    """
    content = json.loads(tokenizer_json)
    model, added = content["model"], content["added_tokens"]
    vocabulary = [entry[0] for entry in model["vocab"]] if _is_unigram(model) else list(model["vocab"])
    spellings = {token["content"] for token in added if token["special"] or _MARK.fullmatch(token["content"])}
    spellings |= {piece for piece in vocabulary if piece.startswith(("<", "▁<")) and _RESERVED.fullmatch(piece)}
    if "unk_token" in model:
        spellings |= {model["unk_token"]} - {None}
    secret = secrets.token_hex(16)
    names = {spelling: f"{secret}{number:05d}" for number, spelling in enumerate(sorted(spellings))}
    unknown_id = _rename(model, names)
    for token in added:
        token["content"] = names.get(token["content"], token["content"])
    content |= {"truncation": None, "padding": None, "post_processor": None}
    # the library raises a bare Exception, as `Tokenizer.from_file` does
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False)), names, unknown_id


def _is_unigram(model: dict[str, object]) -> bool:
    return isinstance(model["vocab"], list)


def _rename(model: dict[str, object], names: dict[str, str]) -> int | None:
    """Rename pieces of a model's vocabulary; return the id of its unknown piece."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
        unknown_id = model.get("unk_id")
        return unknown_id if isinstance(unknown_id, int) else None
    assert isinstance(vocabulary, dict)
    merges = model.get("merges")
    if isinstance(merges, list):  # a merge must not spell a control token either
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        model["merges"] = [
            merge for merge, pair in zip(merges, pairs, strict=True) if names.keys().isdisjoint((*pair, "".join(pair)))
        ]
    unknown = model.get("unk_token")
    unknown_id = vocabulary.get(unknown)
    model["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    if isinstance(unknown, str):
        model["unk_token"] = names.get(unknown, unknown)
    return unknown_id if isinstance(unknown_id, int) else None
