"""What tests of the scheduler build with: rows, and a scheduler in which some wait."""

from functools import cache

import numpy as np

from adapters.template import Template
from backbone import PLAIN
from backbone.trie import build_trie
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.scheduler import Scheduler
from service.engine.types import Row, share_texts

BUDGET = 100
"""Tokens of a batch."""
LATER = 1_000.0


@cache
def _adapter() -> LoadedAdapter:
    """One whose rows cost their text alone."""
    return LoadedAdapter(
        digest="sha256:0",
        rows=np.zeros((0, 8), np.float32),
        num_virtual_tokens=0,
        template=Template.parse("{text}"),
        frame=PLAIN,
        label_names=("no", "yes"),
        readout=build_trie([(5,), (6,)], start_id=0, eos_id=1),
        max_tokens=1_000,
        temperature=1.0,
        abstain_threshold=None,
    )


def make_group(num_tokens: int, num_rows: int, **changes: object) -> list[Row]:
    """Rows that share an encoder pass, of `num_tokens` in all: each row after the first adds one."""
    rows = [make_row(num_tokens - num_rows + 1, **changes) for _ in range(num_rows)]
    share_texts(rows)
    return rows


def make_row(
    num_tokens: int,
    *,
    deadline: float = LATER,
    gone: bool = False,
    tenant: str = "a",
    weight: float = 1.0,
    background: bool = False,
) -> Row:
    """A row that waits, or whose caller has left."""
    row = Row(_adapter(), (0,) * num_tokens, deadline, tenant, weight, top_k=1, background=background)
    if gone:
        row.future.cancel()
    return row


def scheduler_of(*rows: Row, max_batch_tokens: int = BUDGET) -> Scheduler:
    """Rows that wait, in their order."""
    scheduler = Scheduler(max_batch_tokens=max_batch_tokens)
    scheduler.put(rows)
    return scheduler
