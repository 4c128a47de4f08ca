"""Warm-up and self-test of the model, with synthetic rows of synthetic tasks. Belongs to the model thread."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from adapters.template import Template
from backbone import PLAIN, TOLERANCES, Backbone
from backbone.trie import build_trie
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.fault_isolation import FaultIsolation
from service.engine.model_runner import Forward
from service.engine.types import Row, RowScores, SelfTest
from service.errors import SearchExhausted

_FIRST_PIECE = 3  # after pad, end-of-sequence and unknown


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a synthetic row."""

    num_virtual_tokens: int
    num_text_tokens: int
    label_tokens: Sequence[int]
    """[K], tokens per label."""


def synthetic_rows(backbone: Backbone, shapes: Sequence[Shape]) -> list[Row]:
    """Return one row per shape, the same ones each time; reads the embedding table."""
    random = np.random.default_rng(0)
    return [_row(backbone, shape, f"synthetic:{index}", random) for index, shape in enumerate(shapes)]


def _row(backbone: Backbone, shape: Shape, digest: str, random: np.random.Generator) -> Row:
    embedding = backbone.weights.embedding  # [V, H]
    pieces = np.arange(_FIRST_PIECE, embedding.shape[0])
    prompt_ids = random.choice(pieces, shape.num_virtual_tokens).tolist()
    text_ids = random.choice(pieces, shape.num_text_tokens - 1).tolist()
    first_pieces = random.choice(pieces, len(shape.label_tokens), replace=False).tolist()
    labels = [
        # every second label shares its first piece with the label before it, so that the trie has more than one node
        (first_pieces[index - index % 2 * (length > 1)], *random.choice(pieces, length - 1).tolist())
        for index, length in enumerate(shape.label_tokens)
    ]
    architecture = backbone.architecture
    adapter = LoadedAdapter(
        digest=digest,
        rows=embedding[prompt_ids].float().cpu().numpy(),
        num_virtual_tokens=shape.num_virtual_tokens,
        template=Template.parse("{text}"),
        frame=PLAIN,
        label_names=tuple(str(index) for index in range(len(labels))),
        readout=build_trie(labels, start_id=architecture.start_id, eos_id=architecture.eos_id),
        max_tokens=shape.num_text_tokens,
        temperature=1.0,
        abstain_threshold=None,
    )
    return Row(adapter, (*text_ids, architecture.eos_id), deadline=math.inf)


_SHAPES = (
    Shape(num_virtual_tokens=10, num_text_tokens=12, label_tokens=(1, 1)),
    Shape(num_virtual_tokens=1, num_text_tokens=1, label_tokens=(1, 1, 1, 1)),
    Shape(num_virtual_tokens=20, num_text_tokens=40, label_tokens=(2, 3, 1, 2, 2, 1)),
    Shape(num_virtual_tokens=10, num_text_tokens=25, label_tokens=(1, 1, 1)),
    Shape(num_virtual_tokens=5, num_text_tokens=7, label_tokens=(3, 3, 4, 4, 1, 1, 2, 2, 1, 1)),
    Shape(num_virtual_tokens=10, num_text_tokens=33, label_tokens=(1, 2)),
    Shape(num_virtual_tokens=3, num_text_tokens=18, label_tokens=(2, 2)),
)


def run_self_test(forward: Forward, backbone: Backbone) -> SelfTest:
    """Compare the scores of rows that run alone with those of the same rows in several batches."""
    rows = synthetic_rows(backbone, _SHAPES)
    alone = [forward([row])[0] for row in rows]
    batches = _batches(range(len(rows)))
    worst = 0.0
    for batch in batches:
        together = forward([rows[index] for index in batch])
        worst = max(worst, *(_difference(alone[i], scores) for i, scores in zip(batch, together, strict=True)))
    return SelfTest(len(rows), len(batches), worst, TOLERANCES[backbone.precision])


def _batches(indices: Sequence[int]) -> list[Sequence[int]]:
    """Return batches in which rows have many neighbours, few, and themselves."""
    return [indices, indices[::-1], indices[::2], indices[1::2], [indices[0], *indices[:3]]]


def _difference(alone: RowScores | SearchExhausted, together: RowScores | SearchExhausted) -> float:
    if isinstance(alone, SearchExhausted) or isinstance(together, SearchExhausted):
        return float("inf")
    if not (np.isfinite(alone).all() and np.isfinite(together).all()):
        return float("inf")
    return float(np.abs(alone - together).max())


_ROW = Shape(num_virtual_tokens=10, num_text_tokens=54, label_tokens=(1, 1, 2))
_ROW_TOKENS = _ROW.num_virtual_tokens + _ROW.num_text_tokens
_LONG_STEP_S = 0.25


def warm_up(fault_isolation: FaultIsolation, backbone: Backbone, *, max_batch_tokens: int) -> None:
    """Run batches of 1, 4, 16 … rows up to the largest that the scheduler composes; stop before one that takes long.

    A batch that does not fit in memory is not an error: the fault isolation remembers its size.
    """
    (row,) = synthetic_rows(backbone, [_ROW])
    largest = max(1, max_batch_tokens // _ROW_TOKENS)
    powers = (4**exponent for exponent in range(largest.bit_length() // 2 + 1))
    for num_rows in chain((size for size in powers if size < largest), (largest,)):
        started = time.monotonic()
        for _ in fault_isolation.run([row] * num_rows):
            pass
        if 4 * (time.monotonic() - started) > _LONG_STEP_S:  # the next one has four times the rows
            return
