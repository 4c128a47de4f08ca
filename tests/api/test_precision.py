"""Servers in bf16 and int8."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer

from adapters import PromptAdapter
from adapters.adapter import INT8_LABEL_AGREEMENT, Provenance
from backbone import Backbone
from backbone.precision import cpu_has_bf16
from service.settings import Settings

Serve = Callable[..., RunningServer]


def with_agreement(adapter: PromptAdapter, agreement: float) -> PromptAdapter:
    provenance = Provenance(method="test", metrics={INT8_LABEL_AGREEMENT: agreement})
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"provenance": provenance}))


@pytest.mark.slow
def test_a_server_answers_in_bf16_where_the_cpu_multiplies_in_it(serve: Serve, tiny: Backbone) -> None:
    precision = "bf16" if cpu_has_bf16() else "fp32"
    server = serve(precision=precision)
    server.upload("task", make_adapter(tiny))
    assert server.classify("task", "a film").status_code == 200
    assert server.client.get("/healthz/ready").json()["precision"] == precision


def test_fp16_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="overflow"):
        Settings(precision="fp16")


@pytest.mark.slow
def test_a_server_in_int8_takes_what_was_validated_there(serve: Serve, tiny: Backbone) -> None:
    server = serve(precision="int8")
    server.upload("good", with_agreement(make_adapter(tiny), 0.985))
    assert server.classify("good", "a film").status_code == 200
    assert server.client.get("/healthz/ready").json()["precision"] == "int8"


@pytest.mark.parametrize(("agreement", "said"), [(None, "not measured"), (0.97, "0.97")])
@pytest.mark.slow
def test_a_server_in_int8_refuses_what_was_not(
    serve: Serve, tiny: Backbone, agreement: float | None, said: str
) -> None:
    adapter = make_adapter(tiny) if agreement is None else with_agreement(make_adapter(tiny), agreement)
    exact = serve()
    exact.upload("task", adapter)
    assert exact.classify("task", "a film").status_code == 200
    server = serve(precision="int8")  # the same registry
    refused = server.classify("task", "a film")
    check_problem(refused, 409, "precision_not_validated", "at least 0.98")
    assert said in refused.json()["detail"]
    forced = serve(precision="int8", force_precision=True)
    assert forced.classify("task", "a film").status_code == 200
