"""Large answers: the bytes that pydantic writes in one call, in pieces between which other requests are served."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from fastapi import Response
from pydantic import TypeAdapter
from support.engine import loaded

from adapters import TaskSpec
from backbone import Backbone
from service.api.json_response import json_pieces, json_response, num_values
from service.api.schemas.classify import ClassifyResponse, FanOutAnswer, FanOutRefusal, FanOutResponse
from service.api.schemas.open_inference import OipInferResponse, OipOutput
from service.api.schemas.openai import OpenAIClassData, OpenAIClassifyResponse, OpenAIUsage
from service.api.schemas.tei import Scored, Scores
from service.api.schemas.types import ProblemBody
from service.inference.predictions import Prediction, RowResult, predict, predict_all
from service.pieces import PIECE_VALUES, map_in_pieces


def prediction(num_labels: int, *, seed: int = 0) -> Prediction:
    scores = np.random.default_rng(seed).dirichlet([0.02] * num_labels)  # some are as small as 1e-300
    names = [f"läbel-{number}\n" for number in range(num_labels)]
    return Prediction(
        label=names[0],
        score=float(scores[0]),
        labels=None,
        value=None,
        scores=dict(zip(names, scores.tolist(), strict=True)),
        logprobs=dict(zip(names, np.log(scores + 1e-9).tolist(), strict=True)) | {"none": float("-inf")},
        abstained=False,
        tokens=7,
        truncated=True,
        cached=False,
        lost_tokens={"text": 3},
        unknown_tokens=0.25,
    )


def native(num_rows: int, num_labels: int) -> dict[str, Any]:
    rows = [prediction(num_labels, seed=row) for row in range(num_rows)]
    return {"task": "t", "version": 1, "adapter": "sha256:0", "backbone": "b", "precision": "fp32", "predictions": rows}


def bodies(num_rows: int, num_labels: int) -> dict[str, tuple[object, object, bool]]:
    """By API: the response model, a body, and whether members that are null are left out."""
    scores = np.random.default_rng(1).dirichlet([0.1] * num_labels, num_rows)
    names = [f"label-{number}" for number in range(num_labels)]
    answers = [FanOutAnswer(ref=f"t@{part}", **native(num_rows, num_labels)) for part in range(3)]
    problem = ProblemBody(
        type="about:blank", title="t", status=404, detail="d", code="not_found", instance="/", request_id=None
    )
    data = [
        OpenAIClassData(index=row, label="x", probs=values.tolist(), num_classes=num_labels)
        for row, values in enumerate(scores)
    ]
    outputs = [
        OipOutput(name="label", datatype="BYTES", shape=[num_rows], data=["é"] * num_rows),
        OipOutput(name="probs", datatype="FP32", shape=list(scores.shape), data=scores.flatten().tolist()),
    ]
    return {
        "native": (ClassifyResponse, ClassifyResponse(**native(num_rows, num_labels)), False),
        "fan-out": (FanOutResponse, FanOutResponse(results=[*answers, FanOutRefusal(ref="x", problem=problem)]), False),
        "tei": (
            Scores,
            [[Scored(label=n, score=s) for n, s in zip(names, row, strict=True)] for row in scores.tolist()],
            False,
        ),
        "openai": (
            OpenAIClassifyResponse,
            OpenAIClassifyResponse(
                id="classify-1", created=1, model="t", data=data,
                usage=OpenAIUsage(prompt_tokens=1, total_tokens=1),
            ),
            False,
        ),
        "open inference": (
            OipInferResponse,
            OipInferResponse(model_name="t", model_version="1", id=None, outputs=outputs),
            True,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("size", [(1, 2), (3, 40), (40, 300)])
@pytest.mark.parametrize("api", ["native", "fan-out", "tei", "openai", "open inference"])
def test_the_pieces_are_the_bytes_of_one_call_and_none_is_large(api: str, size: tuple[int, int]) -> None:
    model, body, exclude_none = bodies(*size)[api]
    pieces = list(json_pieces(body, exclude_none=exclude_none))
    assert b"".join(pieces) == TypeAdapter(model).dump_json(body, exclude_none=exclude_none)
    whole = num_values(body)
    assert len(pieces) == 1 if whole <= PIECE_VALUES else len(pieces) >= whole / PIECE_VALUES
    # no number of these bodies takes more than 60 bytes, with the name of its label
    assert max(map(len, pieces)) <= 60 * PIECE_VALUES


def turns_of_another_task(work: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """How often another task of the event loop runs while some work does."""

    async def run() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await work()
        task.cancel()
        return turns

    return asyncio.run(run())


def test_other_requests_are_served_while_a_large_answer_is_written_and_none_waits_for_a_small_one() -> None:
    def write(num_rows: int, num_labels: int) -> Callable[[], Coroutine[Any, Any, object]]:
        body = ClassifyResponse(**native(num_rows, num_labels))
        return lambda: json_response(body, Response())

    assert turns_of_another_task(write(20, 1_000)) >= 19
    assert turns_of_another_task(write(8, 20)) == 0


def test_other_requests_are_served_while_the_predictions_of_many_labels_are_computed(tiny: Backbone) -> None:
    labels = {f"label {number}": f"word {number}" for number in range(1_000)}
    spec = TaskSpec(template="text: {text}", labels=labels, max_tokens=64)
    adapter = loaded(tiny, spec, num_virtual_tokens=0, readout="pooled")
    random = np.random.default_rng(0)
    results = [RowResult(random.normal(size=1_000).astype(np.float32), 5, {}, 0.0) for _ in range(20)]
    assert turns_of_another_task(lambda: predict_all(results, adapter, top_k=5)) >= 9
    found = asyncio.run(predict_all(results, adapter, top_k=5))
    assert found == [predict(result, adapter, top_k=5) for result in results]


def test_a_map_in_pieces_keeps_the_order_and_does_not_pause_for_little() -> None:
    async def square(count: int, values_each: int) -> list[int]:
        return await map_in_pieces(lambda number: number**2, range(count), values_each=values_each)

    assert asyncio.run(square(100, 1_000)) == [number**2 for number in range(100)]
    assert asyncio.run(square(0, 1_000)) == []
    assert turns_of_another_task(lambda: square(100, 1_000)) >= 49
    assert turns_of_another_task(lambda: square(100, 20)) == 0


def test_the_response_keeps_the_headers_that_its_route_has_set() -> None:
    injected = Response(headers={"Server-Timing": "total;dur=1"})
    del injected.headers["content-length"]  # as FastAPI does
    made = asyncio.run(json_response(ClassifyResponse(**native(1, 2)), injected))
    assert made.headers["Server-Timing"] == "total;dur=1"
    assert made.headers.getlist("content-length") == [str(len(made.body))]
    assert made.headers["content-type"] == "application/json"
