"""Binary tensors over HTTP: Triton's client with its defaults, the protocol's own bytes, and wrong ones."""

import gzip
import json
import struct
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from support.adapters import TOPICS, make_adapter
from support.server import RunningServer

from backbone import Backbone

TEXTS = ["a gripping film", "flat, überlang und 長い"]
PAIRS = [{"premise": "it rains", "hypothesis": "it is wet"}, {"premise": "yes", "hypothesis": "no"}]
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/sentiment/infer"


@pytest.fixture(scope="module")
def server(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """With a multi-label task."""
    shared_server.upload("topics", make_adapter(tiny, TOPICS, readout="soft"))
    return shared_server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def native(server: RunningServer, ref: str, inputs: object) -> list[dict]:
    return server.classify(ref, inputs).raise_for_status().json()["predictions"]


def tensor(name: str, texts: list[str], shape: list[int] | None = None, **options: bool) -> triton.InferInput:
    made = triton.InferInput(name, [len(texts)] if shape is None else shape, "BYTES")
    array = np.array(texts, dtype=np.object_).reshape(made.shape())
    return made.set_data_from_numpy(array, **options)


def check(server: RunningServer, result: triton.InferResult, ref: str, inputs: object) -> None:
    """Compare all outputs with the native answer's, at the precision of FP32."""
    expected = native(server, ref, inputs)
    assert [label.decode() for label in result.as_numpy("label")] == [row["label"] for row in expected]
    assert result.as_numpy("score").tolist() == [np.float32(row["score"]) for row in expected]
    probs = result.as_numpy("probs")
    names = server.client.get(f"/v2/models/{ref}").json()["parameters"]["labels"]
    assert probs.tolist() == [[np.float32(row["scores"][name]) for name in names] for row in expected]
    if expected[0]["labels"] is not None:
        decisions = result.as_numpy("decisions")
        assert decisions.tolist() == [[name in row["labels"] for name in names] for row in expected]


def test_tritons_client_works_with_its_defaults(server: RunningServer, client: triton.InferenceServerClient) -> None:
    assert client.is_server_ready()
    assert client.is_model_ready("sentiment")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    result = client.infer("sentiment", [tensor("sentence", TEXTS)])
    output = result.get_output("probs")
    assert output["parameters"]["binary_data_size"] == 2 * 2 * 4
    assert "data" not in output
    check(server, result, "sentiment", TEXTS)


@pytest.mark.slow
def test_tritons_client_works_with_several_tensors_versions_outputs_and_compression(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    columns = [tensor(name, [pair[name] for pair in PAIRS], [2, 1]) for name in PAIRS[0]]
    result = client.infer(
        "pair",
        columns,
        model_version="1",
        request_id="7",
        timeout=5_000_000,
        request_compression_algorithm="gzip",
        response_compression_algorithm="gzip",
    )
    assert result.get_response()["id"] == "7"
    check(server, result, "pair", PAIRS)
    check(server, client.infer("topics", [tensor("text", TEXTS)]), "topics", TEXTS)
    wanted = [triton.InferRequestedOutput("score"), triton.InferRequestedOutput("label", binary_data=False)]
    result = client.infer("sentiment", [tensor("sentence", TEXTS)], outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["label", "score"]
    assert "data" in result.get_output("label")
    assert "data" not in result.get_output("score")
    assert result.as_numpy("probs") is None


def test_one_tensor_may_be_binary_and_another_in_json(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    columns = [tensor(name, [pair[name] for pair in PAIRS], binary_data=name == "hypothesis") for name in PAIRS[0]]
    check(server, client.infer("pair", columns), "pair", PAIRS)


def test_tritons_client_understands_a_refusal(client: triton.InferenceServerClient) -> None:
    with pytest.raises(triton.InferenceServerException, match="no task 'nothing'"):
        client.infer("nothing", [tensor("sentence", TEXTS)])
    with pytest.raises(triton.InferenceServerException, match="inputs\\[1\\]: the text is empty"):
        client.infer("sentiment", [tensor("sentence", ["a", ""])])


# The protocol's own bytes


def elements(*texts: str | bytes) -> bytes:
    """The binary data of BYTES: each element is its length in 4 bytes, the lowest first, and its bytes."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def header(size: object, shape: object = (2,), **members: object) -> dict[str, object]:
    one = {"name": "sentence", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    return {"inputs": [one], **members}


def post(server: RunningServer, body: object, data: bytes, length: object = None, **headers: str) -> httpx2.Response:
    text = json.dumps(body).encode()
    stated = {LENGTH: str(len(text) if length is None else length)}
    return server.client.post(INFER, content=text + data, headers={**stated, **headers})


@pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/json"])
def test_the_bytes_of_the_specification(server: RunningServer, media_type: str | None) -> None:
    data, headers = elements(*TEXTS), {} if media_type is None else {"Content-Type": media_type}
    body = header(len(data), parameters={"binary_data_output": True}, outputs=[{"name": "label"}, {"name": "score"}])
    answer = post(server, body, data, **headers).raise_for_status()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Superpos-Task"] == "sentiment"
    length = int(answer.headers[LENGTH])
    label, score = json.loads(answer.content[:length])["outputs"]
    expected = native(server, "sentiment", TEXTS)
    labels = elements(*(row["label"] for row in expected))
    assert label["parameters"] == {"binary_data_size": len(labels)}
    assert score["parameters"] == {"binary_data_size": 8}
    assert answer.content[length:] == labels + struct.pack("<2f", *(row["score"] for row in expected))


def test_a_binary_request_is_answered_in_json_unless_it_asks_otherwise(server: RunningServer) -> None:
    data = elements(*TEXTS)
    answer = post(server, header(len(data)), data).raise_for_status()
    assert LENGTH not in answer.headers
    assert answer.json()["outputs"][0]["data"] == [row["label"] for row in native(server, "sentiment", TEXTS)]
    compressed = gzip.compress(json.dumps(header(len(data))).encode() + data)
    length = len(json.dumps(header(len(data))))
    headers = {LENGTH: str(length), "Content-Encoding": "gzip"}
    assert server.client.post(INFER, content=compressed, headers=headers).json()["outputs"] == answer.json()["outputs"]


GOOD = elements("a", "b")


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "9" * 5_000, "1000000", "0x10", "٣", "+5"])
def test_a_wrong_length_of_the_header_is_malformed(server: RunningServer, length: str) -> None:
    body = json.dumps(header(len(GOOD))).encode()
    raw = [(LENGTH.encode(), length.encode()), (b"Content-Type", b"application/json")]
    response = server.client.post(INFER, content=body + GOOD, headers=raw)
    assert response.status_code == 400, response.text
    assert len(response.content) < 1_000


@pytest.mark.parametrize("length", [0, 1, 40])
def test_a_header_that_ends_within_the_json_is_malformed(server: RunningServer, length: int) -> None:
    response = post(server, header(len(GOOD)), GOOD, length)
    assert response.status_code == 400
    assert "not JSON" in response.json()["error"]


def test_two_lengths_are_malformed(server: RunningServer) -> None:
    body = json.dumps(header(len(GOOD))).encode()
    raw = [(LENGTH, str(len(body))), (LENGTH, "1"), ("Content-Type", "application/json")]
    response = server.client.post(INFER, content=body + GOOD, headers=raw)
    assert response.status_code == 400
    assert LENGTH in response.json()["error"]


@pytest.mark.parametrize(
    ("data", "mention"),
    [
        (GOOD[:-1], "element 1 states 1 bytes, but 0 are left of the tensor"),
        (GOOD[:6], "element 1 has 1 bytes, expected a length of 4 bytes"),
        (struct.pack("<I", 2**32 - 1) + b"a", "element 0 states 4294967295 bytes, but 1 are left"),
        (struct.pack(">I", 1) + b"a", "element 0 states 16777216 bytes"),
        (elements("a", b"\xff\xfe"), "element 1 is not UTF-8"),
        (elements("a", b"\xed\xa0\x80"), "element 1 is not UTF-8"),
    ],
)
def test_tensors_that_are_no_texts_are_malformed(server: RunningServer, data: bytes, mention: str) -> None:
    response = post(server, header(len(data)), data)
    assert response.status_code == 400
    assert "input 'sentence', " + mention in response.json()["error"]


@pytest.mark.parametrize(
    ("size", "status", "mention"),
    [
        (11, 400, "binary_data_size 11, but 10 bytes are left of the body"),
        (5, 400, "the body has 5 bytes after its tensors"),
        (2**62, 400, "but 10 bytes are left"),
        (-1, 422, "-1, expected a number of bytes"),
        (True, 422, "True, expected a number of bytes"),
        ("10", 422, "10, expected a number of bytes"),
        ([0] * 1_000, 422, "expected a number of bytes"),
        (None, 422, "None, expected a number of bytes"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused(server: RunningServer, size: object, status: int, mention: str) -> None:
    response = post(server, header(size), GOOD)
    assert response.status_code == status
    assert mention in response.json()["error"]


@pytest.mark.parametrize("shape", [[3], [1], [2, 2], [2**62], [10**300], [1_000_000, 1_000_000], [0], []])
def test_a_shape_that_is_not_that_of_its_elements_is_refused(server: RunningServer, shape: list[int]) -> None:
    response = post(server, header(len(GOOD), shape), GOOD)
    assert response.status_code == 422
    assert "shape" in response.json()["error"]


def test_members_that_contradict_each_other_are_refused(server: RunningServer) -> None:
    both = header(len(GOOD))
    both["inputs"][0]["data"] = ["a", "b"]  # type: ignore[index]
    assert "both data and binary_data_size" in post(server, both, GOOD).json()["error"]
    numbers = header(len(GOOD))
    numbers["inputs"][0]["datatype"] = "FP32"  # type: ignore[index]
    assert "datatype" in post(server, numbers, GOOD).json()["error"]
    more = header(len(GOOD))
    more["inputs"][0]["parameters"]["more"] = 1  # type: ignore[index]
    assert "more" in post(server, more, GOOD).json()["error"]
    refused = server.client.post(INFER, json=header(len(GOOD)))
    assert refused.status_code == 422, "binary data, and no length of the JSON"


@pytest.mark.parametrize("body", [[], "x", 3, None, {}, {"inputs": {}}, {"inputs": [3, None, "x", [[]]]}])
def test_a_header_that_is_no_request_is_refused(server: RunningServer, body: object) -> None:
    for data in (b"", GOOD):
        assert post(server, body, data).status_code in (400, 422)


@pytest.mark.slow
def test_a_megabyte_of_elements_is_refused_by_their_number(server: RunningServer) -> None:
    data = bytes(1_000_000)  # 250,000 empty texts
    response = post(server, header(len(data), [250_000]), data)
    assert response.status_code == 422
    assert "input 'sentence' has too many elements, expected at most 1024" in response.json()["error"]
    many = {"inputs": [{**header(4_000)["inputs"][0], "name": f"n{n}"} for n in range(100)]}  # type: ignore[index]
    response = post(server, many, bytes(400_000))
    assert response.status_code == 422
    assert "too many elements" in response.json()["error"]
    assert len(response.content) < 1_000


def test_octets_without_a_length_are_read_as_json(server: RunningServer) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    body = {"inputs": [{"name": "sentence", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    assert server.client.post(INFER, content=json.dumps(body), headers=octets).status_code == 200
    assert server.client.post(INFER, content=GOOD, headers=octets).status_code == 400
    refused = server.client.post("/v1/classify", content=b"{}", headers=octets)
    assert refused.status_code == 415


def test_more_rows_than_a_request_may_have_are_refused(server: RunningServer) -> None:
    data = elements(*["x"] * 257)
    response = post(server, header(len(data), [257]), data)
    assert response.status_code == 422
    assert "257" in response.json()["error"]
