"""Servers in bf16 and int8, and the versions that they answer in fp32."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer

from adapters import PromptAdapter
from adapters.adapter import LABEL_AGREEMENT, MIN_LABEL_AGREEMENT, Provenance
from backbone import Backbone, fastest_for_serving
from backbone.precision import cpu_has_bf16
from service import memory
from service.settings import Settings

Serve = Callable[..., RunningServer]

TEXTS = ["a film", "flat and overlong", "a gripping film", "it is what it is"]


def with_agreement(adapter: PromptAdapter, **agreements: float) -> PromptAdapter:
    """The adapter as if its labels in these precisions had been compared with fp32."""
    metrics = {LABEL_AGREEMENT[name]: agreement for name, agreement in agreements.items()}
    provenance = Provenance(method="test", metrics=metrics)
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"provenance": provenance}))


def readiness(server: RunningServer) -> Mapping[str, object]:
    return server.client.get("/healthz/ready").json()


def logprobs(server: RunningServer, ref: str) -> list[object]:
    answer = server.classify(ref, TEXTS)
    assert answer.status_code == 200, answer.text
    return [each["logprobs"] for each in answer.json()["predictions"]]


def test_fp16_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="overflow"):
        Settings(precision="fp16")


def test_auto_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERPOS_PRECISION")
    assert Settings().precision == "auto"


@pytest.mark.slow
def test_auto_answers_in_bf16_where_this_processor_is_faster_in_it_and_the_labels_agree(
    serve: Serve, tiny: Backbone
) -> None:
    fastest = fastest_for_serving(tiny.device)
    server = serve(precision="auto")
    server.upload("good", with_agreement(make_adapter(tiny), bf16=0.995))
    answer = server.classify("good", "a film")
    assert answer.json()["precision"] == answer.headers["X-Superpos-Precision"] == fastest
    assert readiness(server)["precision"] == fastest
    assert readiness(server)["precisions"] == [fastest]
    server.upload("apart", with_agreement(make_adapter(tiny, seed=1), bf16=0.99, int8=1.0))
    assert server.classify("apart", "a film").json()["precision"] == "fp32"
    assert readiness(server)["precisions"] == (["fp32"] if fastest == "fp32" else [fastest, "fp32"])


@pytest.mark.parametrize("precision", ["int8", *(["bf16"] if cpu_has_bf16() else [])])
@pytest.mark.slow
def test_versions_of_both_precisions_in_one_request_answer_to_the_bit_as_alone(
    serve: Serve, tiny: Backbone, precision: str
) -> None:
    server = serve(precision=precision)
    suited = with_agreement(make_adapter(tiny), **{precision: MIN_LABEL_AGREEMENT[precision]})
    server.upload("suited", suited)
    server.upload("unmeasured", make_adapter(tiny, seed=1))
    server.upload("apart", with_agreement(make_adapter(tiny, seed=2), **{precision: 0.97}))
    alone = {ref: logprobs(server, ref) for ref in ("suited", "unmeasured", "apart")}
    together = server.client.post("/classify", json={"tasks": list(alone), "inputs": TEXTS}).json()["results"]
    assert [each["precision"] for each in together] == [precision, "fp32", "fp32"]
    assert [[row["logprobs"] for row in each["predictions"]] for each in together] == list(alone.values())
    exact = serve()  # the same registry
    assert logprobs(exact, "unmeasured") == alone["unmeasured"]
    assert logprobs(exact, "apart") == alone["apart"]
    assert logprobs(exact, "suited") != alone["suited"]


@pytest.mark.slow
def test_a_server_that_must_answers_everything_in_its_precision(serve: Serve, tiny: Backbone) -> None:
    server = serve(precision="int8", force_precision=True)
    server.upload("unmeasured", make_adapter(tiny))
    assert server.classify("unmeasured", "a film").json()["precision"] == "int8"
    assert readiness(server)["precisions"] == ["int8"]


@pytest.mark.parametrize(("agreement", "said"), [(None, "not measured"), (0.97, "0.97")])
@pytest.mark.slow
def test_a_server_without_memory_for_fp32_refuses_what_its_precision_does_not_suit(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch, agreement: float | None, said: str
) -> None:
    adapter = make_adapter(tiny) if agreement is None else with_agreement(make_adapter(tiny), int8=agreement)
    serve().upload("task", adapter)
    monkeypatch.setattr(memory, "available_bytes", lambda: 5)
    server = serve(precision="int8")  # the same registry
    refused = server.classify("task", "a film")
    check_problem(refused, 409, "precision_not_validated", "at least 0.98")
    assert said in refused.json()["detail"]
    assert "float32 weights take" in refused.json()["detail"]
    assert "0 MiB are free" in refused.json()["detail"]
