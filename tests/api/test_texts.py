"""What users' texts cannot do: name control tokens, push out the template or another field, or be answered unread."""

import re
from collections.abc import Callable, Mapping

import httpx2
import pytest
from support.adapters import PAIR, make_adapter
from support.http import check_problem, tensors
from support.server import RunningServer
from support.waiting import eventually

from adapters import PromptAdapter, TaskSpec
from adapters.files import to_files
from backbone import Backbone
from service.api.inference import WARNING
from training.data.examples import Example
from training.scoring.adapter_answers import answers
from training.scoring.evaluation import tokenize_examples

Serve = Callable[..., RunningServer]
Ask = Callable[[RunningServer, str], httpx2.Response]

CONTROL = ["</s>", "<pad>", "<unk>", "<extra_id_0>"]
LONG = " ".join(["it is wet and the world of sports"] * 60)
FACES: Mapping[str, Ask] = {
    "native": lambda server, text: server.classify("sentiment", text, truncate="end"),
    "several tasks": lambda server, text: server.client.post(
        "/classify", json={"tasks": ["sentiment", "sentiment@1"], "inputs": text, "truncate": "end"}
    ),
    "TEI": lambda server, text: server.client.post("/tei/sentiment/predict", json={"inputs": text, "truncate": True}),
    "TEI, by header": lambda server, text: server.client.post(
        "/predict", json={"inputs": text, "truncate": True}, headers={"X-Superpos-Task": "sentiment"}
    ),
    "OpenAI": lambda server, text: server.client.post(
        "/v1/classify", json={"model": "sentiment", "input": text, "truncate_prompt_tokens": -1}
    ),
    "v2": lambda server, text: server.client.post(
        "/v2/models/sentiment/infer", json={"inputs": tensors([{"sentence": text}]), "parameters": {"truncate": "end"}}
    ),
    "v2, a version": lambda server, text: server.client.post(
        "/v2/models/sentiment/versions/1/infer",
        json={"inputs": tensors([{"sentence": text}]), "parameters": {"truncate": "end"}},
    ),
}
BODY_SAYS_IT = ("native", "several tasks")


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One for the module: no test here changes it."""
    return shared_server


def scored(backbone: Backbone, adapter: PromptAdapter, item: Mapping[str, str]) -> dict[str, float]:
    """Answer one item as training and `superpos evaluate` do."""
    rows = tokenize_examples(backbone, adapter.spec, [Example(adapter.spec.render(item), 0, fields=item)])
    (log_probs,) = answers(backbone, adapter, rows).tolist()
    return dict(zip(adapter.spec.label_names, log_probs, strict=True))


@pytest.mark.parametrize(
    "item",
    [
        *({"premise": f"the city {token} rains", "hypothesis": token * 9} for token in CONTROL),
        {"premise": "it rains", "hypothesis": LONG},
        {"premise": LONG, "hypothesis": LONG},
        {"premise": LONG + "</s>", "hypothesis": "文" * 200},
    ],
    ids=[*CONTROL, "long", "both long", "long, ended and unread"],
)
@pytest.mark.slow
def test_control_tokens_and_cuts_are_read_alike_in_serving_and_in_scoring(
    server: RunningServer, tiny: Backbone, item: dict[str, str]
) -> None:
    adapter = make_adapter(tiny, PAIR)
    mixed = [{"premise": "it rains", "hypothesis": "it is wet"}, item, {"premise": "yes", "hypothesis": LONG}]
    response = server.classify("pair", mixed, truncate="end")
    assert response.json()["adapter"] == adapter.digest
    served = response.json()["predictions"]
    assert served[1]["logprobs"] == pytest.approx(scored(tiny, adapter, item), abs=1e-5)
    assert served[1] == server.classify("pair", item, truncate="end").json()["predictions"][0], "batch = alone"


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_end_and_pad_no_text(server: RunningServer, token: str) -> None:
    """Each character of a control token is read, as that of any other text is."""
    plain, with_token = server.classify("sentiment", ["a film", f"a film {token}"]).json()["predictions"]
    assert with_token["tokens"] >= plain["tokens"] + len(re.findall(r"\w+|[^\w\s]+", token))


def test_limits_are_the_fields_and_the_answer_says_what_each_lost(server: RunningServer) -> None:
    item = {"premise": "it rains", "hypothesis": LONG}
    whole = server.classify("pair", {"premise": "it rains", "hypothesis": "it is wet"}).json()["predictions"][0]
    assert (whole["truncated"], whole["lost_tokens"]) == (False, {})
    by_side = {}
    for side in ("start", "end"):
        (cut,) = server.classify("pair", item, truncate=side).json()["predictions"]
        assert (cut["truncated"], cut["tokens"]) == (True, PAIR.max_tokens)
        assert list(cut["lost_tokens"]) == ["hypothesis"]
        by_side[side] = cut["logprobs"]
        other = server.classify("pair", item | {"premise": "yes or no"}, truncate=side).json()["predictions"][0]
        assert other["logprobs"] != cut["logprobs"], "the premise is read under either policy"
    assert by_side["start"] != by_side["end"]
    check_problem(server.classify("pair", item), 422, "text_too_long", "inputs[0]", str(PAIR.max_tokens))


@pytest.mark.slow
def test_limits_without_room_for_every_field_refuse_the_text(serve: Serve, tiny: Backbone) -> None:
    server = serve(result_cache_bytes=1 << 20)
    narrow = TaskSpec(template=f"{LONG[:160]} {{text}} {{more}}", labels={"a": "yes", "b": "no"}, max_tokens=2)
    own_words = len(tiny.tokenizer.pieces([narrow.template.replace("{text} {more}", "")])[0])
    narrow = narrow.model_copy(update={"max_tokens": own_words + 6})
    # an upload is refused for it (test_uploads.py); a registry may have it from before
    server.registry.publish("default", "narrow", to_files(make_adapter(tiny, narrow)), actor="test")
    eventually(lambda: server.client.get("/tasks/narrow").status_code == 200)
    response = server.classify("narrow", {"text": "film", "more": LONG}, truncate="end")
    check_problem(response, 422, "text_too_long", "inputs[0]", "max_tokens", "shorten")
    # one rendered text, two ways to cut it: the cache knows them apart
    server.upload("pair", make_adapter(tiny, PAIR))
    ways = [
        {"premise": "it rains", "hypothesis": f"{LONG} hypothesis: yes"},
        {"premise": f"it rains hypothesis: {LONG}", "hypothesis": "yes"},
    ]
    assert len({PAIR.render(item) for item in ways}) == 1
    cut = [server.classify("pair", item, truncate="end").json()["predictions"][0] for item in ways * 2]
    assert [list(each["lost_tokens"]) for each in cut] == [["hypothesis"], ["premise"]] * 2
    assert [each["cached"] for each in cut] == [False, False, True, True]
    assert cut[0] | {"cached": True} == cut[2]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("text", ["", "  \n", "\u200b\u00ad", "▁", "\u3000"], ids=ascii)
def test_an_empty_text_is_refused_on_every_face(server: RunningServer, face: str, text: str) -> None:
    response = FACES[face](server, text)
    assert response.status_code == 422
    assert "inputs[0]" in response.text
    assert "empty" in response.text


def test_an_empty_text_is_refused_by_its_place_and_one_empty_field_is_allowed(server: RunningServer) -> None:
    check_problem(server.classify("sentiment", ["a film", " ", "b"]), 422, "invalid_input", "inputs[1]", "visible")
    assert server.classify("pair", {"premise": "", "hypothesis": "it is wet"}).status_code == 200
    check_problem(server.classify("pair", {"premise": "", "hypothesis": "\n"}), 422, "invalid_input", "inputs[0]")


@pytest.mark.parametrize("face", FACES)
def test_unknown_tokens_and_lost_ones_are_said_on_every_face(server: RunningServer, face: str) -> None:
    for text, expected in (("a film", None), ("天気" * 30, "0;unknown_tokens=1.00"), (f"{LONG} !", "0;lost_tokens=")):
        response = FACES[face](server, text)
        assert response.status_code == 200
        if face not in BODY_SAYS_IT:
            assert response.headers.get(WARNING, "").startswith(expected or "")
            assert (WARNING in response.headers) == (expected is not None)
            continue
        body = response.json()
        (prediction,) = body["results"][1]["predictions"] if "results" in body else body["predictions"]
        assert prediction["unknown_tokens"] == (1.0 if "unknown" in (expected or "") else None)
        assert list(prediction["lost_tokens"]) == (["sentence"] if "lost" in (expected or "") else [])


def test_unknown_tokens_of_many_rows_fit_into_a_header(server: RunningServer) -> None:
    body = {"model": "sentiment", "input": ["a film", *["天気"] * 50]}
    listed = server.client.post("/v1/classify", json=body).headers[WARNING].split(", ")
    assert listed[0] == "1;unknown_tokens=1.00"
    assert listed[-1] == "more;rows=18"
    assert len(listed) == 33


def test_unknown_tokens_are_null_up_to_a_tenth(server: RunningServer) -> None:
    few, many = server.classify("sentiment", ["the world of sports 天", "film 天気"]).json()["predictions"]
    assert few["unknown_tokens"] is None
    assert many["unknown_tokens"] == pytest.approx(1 / 3)
