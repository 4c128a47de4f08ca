"""What tests of the engine build with: rows, their scores alone, an engine that stands still, a model that breaks."""

import copy
import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import torch
from numpy.typing import NDArray

from adapters import TaskSpec
from adapters.readout import ReadoutKind
from backbone import Backbone, Encoded, LabelVectors, PackedBatch, PackedRow, pack
from backbone.pieces import Pause
from service.catalog.adapter_cache import LoadedAdapter, load_adapter
from service.catalog.learned_labels import LearnedLabels
from service.engine.engine import Engine
from service.engine.types import BatchStats, Row, RowScores
from support.adapters import TOPIC, make_adapter

FAR = 60.0
PROMPTS: dict[str, NDArray[np.float32]] = {}
"""Of the adapters loaded here, by digest."""
READOUTS: dict[str, LabelVectors] = {}
"""The learned ones among them."""


def row(backbone: Backbone, adapter: LoadedAdapter, text: str, *, timeout_s: float = FAR) -> Row:
    tokens = backbone.tokenizer.tokenize([text], max_tokens=64, truncation="error")[0].token_ids
    return Row(adapter, tokens, time.monotonic() + timeout_s)


def copies(asked: Row, count: int) -> list[Row]:
    """Rows that ask the same."""
    return [dataclasses.replace(asked) for _ in range(count)]


def loaded(
    backbone: Backbone,
    spec: TaskSpec = TOPIC,
    *,
    seed: int = 0,
    num_virtual_tokens: int = 10,
    readout: ReadoutKind = "words",
) -> LoadedAdapter:
    made = make_adapter(backbone, spec, seed=seed, num_virtual_tokens=num_virtual_tokens, readout=readout)
    adapter = load_adapter(made, backbone)
    assert adapter.rows is not None
    PROMPTS[adapter.digest] = made.prompt  # the bank will have it
    if made.readout is not None and readout != "words":
        vectors, bias = (torch.from_numpy(x.copy()) for x in (made.readout.label_vectors, made.readout.label_bias))
        READOUTS[adapter.digest] = LabelVectors(readout, vectors, bias, activation=spec.activation)
    return adapter


def packed_tokens(*rows: Row) -> int:
    """What rows add to a packed batch, the decoder's nodes not counted."""
    return sum(asked.adapter.num_virtual_tokens + len(asked.token_ids) for asked in rows)


def alone(backbone: Backbone, asked: Row) -> RowScores:
    prompt = torch.from_numpy(PROMPTS[asked.adapter.digest].copy())
    with torch.inference_mode():
        encoded = backbone.encode(pack([PackedRow(range(len(prompt)), asked.token_ids)]), prompt)
        readout = READOUTS.get(asked.adapter.digest, asked.adapter.readout)
        assert not isinstance(readout, LearnedLabels)
        return backbone.score(encoded, [readout])[0].numpy()


class Held:
    """An engine whose model thread can be made to wait after a row, so that what follows queues."""

    def __init__(self, backbone: Backbone, **changes: object) -> None:
        self.batches: list[BatchStats] = []
        values = {"max_batch_tokens": 4_096, "prompt_table_bytes": 1 << 20, **changes}
        self.engine = Engine(backbone, on_batch=self.batches.append, **values)
        self.engine.start()
        self._go_on = threading.Event()
        self._held = threading.Event()

    def hold(self, asked: Row) -> None:
        """Return once the model thread stands still."""

        def wait(_: Future[RowScores]) -> None:
            self._held.set()
            assert self._go_on.wait(30)

        self.engine.submit(copies(asked, 1))[0].add_done_callback(wait)
        assert self._held.wait(30)

    def release(self) -> None:
        self._go_on.set()


def sabotaged(backbone: Backbone, before: Callable[[PackedBatch], None]) -> Backbone:
    """The same model, but something happens before each batch: it may raise, or wait."""
    broken, sound = copy.copy(backbone), backbone.encode

    def encode(packed: PackedBatch, prompts: torch.Tensor, *, pause: Pause) -> Encoded:
        before(packed)
        return sound(packed, prompts, pause=pause)

    broken.encode = encode
    return broken


def token_of(backbone: Backbone, text: str) -> int:
    """A token that this text has and `a film` has not."""
    tokens = backbone.tokenizer.tokenize([text, "a film"], max_tokens=64, truncation="error")
    return next(iter(set(tokens[0].token_ids) - set(tokens[1].token_ids)))


def assert_as_if_alone(backbone: Backbone, asked: Row, scores: RowScores) -> None:
    assert scores.shape == (asked.adapter.readout.num_labels,)
    assert np.abs(scores - alone(backbone, asked)).max() <= 1e-4


class Clock:
    """Stands in for what the engine imports as `time`; a test moves it ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s
