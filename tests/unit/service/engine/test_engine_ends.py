"""No accepted row is left unanswered, whatever happens to it, to its neighbours, or to the model thread."""

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine import assert_as_if_alone, loaded, row, sabotaged, token_of

from backbone import Backbone, PackedBatch
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.model_runner import RowScores
from service.engine.types import EngineRow, RowAnswer
from service.errors import NotReady, ServiceError

MODEL_EVENTS = st.sampled_from(["works", "works", "works", "raises", "no memory", "dies"])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["good", "other", "nan", "poison"]),
        st.sampled_from(["wanted", "wanted", "wanted", "cancelled", "late"]),
    ),
    min_size=1,
    max_size=12,
)
TEXTS = {"poison": "sports"}
ENDS = st.sampled_from(["stopped", "stopped early", "abandoned"])


@pytest.fixture(scope="module")
def adapters(tiny: Backbone) -> dict[str, LoadedAdapter]:
    good, other, bad = (loaded(tiny, seed=seed, num_virtual_tokens=4) for seed in range(3))
    nan = dataclasses.replace(bad, prompt=np.full_like(bad.prompt, np.nan))
    return {"good": good, "other": other, "nan": nan, "poison": other}


class Fate:
    """What happens in one batch after another."""

    def __init__(self, backbone: Backbone, events: Sequence[str]) -> None:
        self._events, self._poison = list(events), token_of(backbone, "sports")

    def __call__(self, packed: PackedBatch) -> None:
        if self._poison in packed.token_ids:
            raise ValueError("poison")
        match self._events.pop() if self._events else "works":
            case "raises":
                raise RuntimeError("now and then")
            case "no memory" if packed.num_rows > 1:
                raise torch.OutOfMemoryError
            case "dies":
                raise SystemExit("killed")


def ended(future: Future[RowAnswer]) -> RowScores | BaseException:
    try:
        return future.result(30).scores
    except (ServiceError, CancelledError) as exc:
        return exc


@dataclasses.dataclass(frozen=True)
class Story:
    """Requests of several callers, what the model does, and how it ends."""

    requests: list[list[tuple[str, str]]]
    events: list[str]
    end: str
    max_batch_tokens: int


STORIES = st.builds(
    Story,
    requests=st.lists(ROWS, min_size=1, max_size=5),
    events=st.lists(MODEL_EVENTS, max_size=8),
    end=ENDS,
    max_batch_tokens=st.integers(16, 200),
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@settings(max_examples=60, deadline=None)
@given(STORIES)
def test_every_future_ends_with_its_own_scores_or_an_error_of_ours(
    tiny: Backbone, adapters: dict[str, LoadedAdapter], story: Story
) -> None:
    model = sabotaged(tiny, Fate(tiny, story.events))
    engine = Engine(model, max_batch_tokens=story.max_batch_tokens, bank_bytes=1 << 20)
    asked: list[tuple[EngineRow, Future[RowScores]]] = []

    def ask(request: list[tuple[str, str]]) -> None:
        rows = [
            row(tiny, adapters[kind], TEXTS.get(kind, "a film"), timeout_s=-1 if wish == "late" else 60)
            for kind, wish in request
        ]
        futures = engine.submit(rows)
        for (_, wish), future in zip(request, futures, strict=True):
            if wish == "cancelled":
                future.cancel()
        asked.extend(zip(rows, futures, strict=True))

    callers = [threading.Thread(target=ask, args=(request,)) for request in story.requests]
    for number, caller in enumerate(callers):
        caller.start()
        if number == len(callers) // 2:
            engine.start()
    if story.end == "abandoned":
        engine.abandon("given up")
    if story.end == "stopped early":
        engine.stop()
    for caller in callers:
        caller.join()
    engine.stop()
    engine._thread.join(30)
    assert len(asked) == sum(map(len, story.requests))
    outcomes = [ended(future) for _, future in asked]
    for (one, _), outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, np.ndarray):
            assert_as_if_alone(tiny, one, outcome)
    assert engine.stats().failure in (None, "the model thread died of SystemExit: killed")
    if story.end == "stopped" and "dies" not in story.events:
        assert not any(isinstance(outcome, NotReady) for outcome in outcomes)
    assert len(engine._unanswered) == 0
