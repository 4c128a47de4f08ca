"""Rows that nobody sent, of made-up tasks: the model warms up and tests itself with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapters.template import Template
from backbone import Backbone
from backbone.trie import build_trie
from service.loaded import LoadedAdapter

_FIRST_PIECE = 3  # past pad, end-of-sequence and unknown


@dataclass(frozen=True, slots=True)
class SyntheticRow:
    """A row of random tokens."""

    adapter: LoadedAdapter
    token_ids: tuple[int, ...]
    top_k: int | None = None

    @property
    def num_tokens(self) -> int:
        return self.adapter.num_virtual_tokens + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a synthetic row is."""

    num_virtual_tokens: int
    num_text_tokens: int
    label_tokens: Sequence[int]
    """[K], how many tokens each label has."""


def synthetic_rows(backbone: Backbone, shapes: Sequence[Shape]) -> list[SyntheticRow]:
    """A row of each shape, the same ones every time. Reads the embedding table, so it belongs to the model thread."""
    random = np.random.default_rng(0)
    return [_row(backbone, shape, f"synthetic:{index}", random) for index, shape in enumerate(shapes)]


def _row(backbone: Backbone, shape: Shape, digest: str, random: np.random.Generator) -> SyntheticRow:
    embedding = backbone.weights.embedding  # [V, H]
    pieces = np.arange(_FIRST_PIECE, embedding.shape[0])
    prompt_ids = random.choice(pieces, shape.num_virtual_tokens).tolist()
    text_ids = random.choice(pieces, shape.num_text_tokens - 1).tolist()
    first_pieces = random.choice(pieces, len(shape.label_tokens), replace=False).tolist()
    labels = [
        # every other label shares the first piece of the one before it, so that the trie has more than one node
        (first_pieces[index - index % 2 * (length > 1)], *random.choice(pieces, length - 1).tolist())
        for index, length in enumerate(shape.label_tokens)
    ]
    architecture = backbone.architecture
    adapter = LoadedAdapter(
        digest=digest,
        prompt=embedding[prompt_ids].float().cpu().numpy(),
        num_virtual_tokens=shape.num_virtual_tokens,
        template=Template.parse("{text}"),
        label_names=tuple(str(index) for index in range(len(labels))),
        trie=build_trie(labels, start_id=architecture.start_id, eos_id=architecture.eos_id),
        max_tokens=shape.num_text_tokens,
        temperature=1.0,
        abstain_threshold=None,
    )
    return SyntheticRow(adapter, (*text_ids, architecture.eos_id))
