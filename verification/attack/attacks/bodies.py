"""Attacks by request bodies: masses of wrong items, sizes that no route accepts, and misleading paths."""

import gzip
import json
from collections.abc import Iterator, Sequence
from functools import cache

from verification.attack.arena import GZIPPED, JSON, MALLORY, TASK, Answer, Arena, Party, filled
from verification.attack.attack import Attack, Evidence, Fault, first

MAX_ANSWER_BYTES = 64 << 10
MAX_SECONDS = 2.0
"""Far longer than a refusal takes, since the machine may be busy; the neighbour's wait judges its cost."""
MEGABYTE = 1_000_000


def dear(answer: Answer, *, expected: Sequence[int] = range(400, 500)) -> Evidence:
    """Return why the refusal of a bad request is too expensive: its status, its size or its time."""
    if answer.status not in expected:
        return f"it was not refused: {answer}"
    if len(answer.body) > MAX_ANSWER_BYTES:
        return f"the refusal has {len(answer.body)} bytes, at most {MAX_ANSWER_BYTES} are right"
    if answer.seconds > MAX_SECONDS:
        return f"the refusal took {answer.seconds:.1f} s, at most {MAX_SECONDS:g} s are right"
    return None


@cache
def _zeros(count: int) -> list[int]:
    return [0] * count


def gzipped_items(arena: Arena) -> Evidence:
    return dear(arena.tenant.post_gzipped(f"/classify/{TASK}", {"inputs": _zeros(250_000)}))


def plain_items(arena: Arena) -> Evidence:
    body = b'{"inputs": [' + b"0," * 990_000 + b"0]}"
    return dear(arena.tenant.post_bytes(f"/classify/{TASK}", body))


def open_inference_items(arena: Arena) -> Evidence:
    text = {"name": "sentence", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    bodies = (
        {"inputs": _zeros(250_000)},
        {"inputs": [{**text, "data": _zeros(250_000)}]},
        {"inputs": [text], "outputs": _zeros(250_000)},
        {"inputs": [{**text, "shape": _zeros(250_000)}]},
    )
    return first(dear(arena.tenant.post_gzipped(f"/v2/models/{TASK}/infer", body)) for body in bodies)


def binary_tensors(arena: Arena) -> Evidence:
    """Send 475,000 empty texts, in one tensor or in a hundred, and lengths and sizes of more than there is."""
    one = {"name": "sentence", "shape": [1 << 62], "datatype": "BYTES", "parameters": {"binary_data_size": 1_900_000}}
    many = [{**one, "name": f"n{number}", "parameters": {"binary_data_size": 19_000}} for number in range(100)]
    empty, huge = bytes(1_900_000), b"\xff" * 1_900_000

    def sent(inputs: list[dict[str, object]], data: bytes, length: int | None = None) -> Evidence:
        text = json.dumps({"inputs": inputs}).encode()
        stated = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
        return dear(arena.tenant.post_bytes(f"/v2/models/{TASK}/infer", text + data, {**JSON, **stated}))

    bodies = (([one], empty, None), (many, empty, None), ([one], huge, None), ([one], huge, 10**9), ([one], empty, 1))
    return first(sent(*body) for body in bodies)


def fan_out_tasks(arena: Arena) -> Evidence:
    bodies = ({"tasks": _zeros(180_000), "inputs": "x"}, {"tasks": [TASK] * 180_000, "inputs": "x"})
    return first(dear(arena.tenant.post_gzipped("/classify", body)) for body in bodies)


def unknown_keys(arena: Arena) -> Evidence:
    body = {"inputs": "x", **{f"k{number}": 0 for number in range(180_000)}}
    item = {"inputs": {f"k{number}": "" for number in range(180_000)}}
    return first(dear(arena.tenant.post_gzipped(f"/classify/{TASK}", each)) for each in (body, item))


def every_array(arena: Arena) -> Evidence:
    return first(
        dear(arena.admin.send(method, path, content=body, headers=JSON))
        for method, path, members in _operations(arena)
        for body in _megabytes(members)
    )


def _operations(arena: Arena) -> Iterator[tuple[str, str, list[str]]]:
    """Yield method, path and members of every operation with a JSON body."""
    schemas = arena.document()["components"]["schemas"]
    for method, path, operation in arena.operations():
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            while "$ref" in schema:
                schema = schemas[schema["$ref"].rpartition("/")[2]]
            yield method, filled(path, tenant=MALLORY), list(schema.get("properties", {}))


def _megabytes(members: list[str]) -> Iterator[bytes]:
    """Yield a megabyte of wrong items as a whole body, and as the value of each member."""
    wrong = b"[" + b"{}," * (MEGABYTE // 3) + b"{}]"
    yield wrong
    for member in members:
        yield b'{"' + member.encode() + b'": ' + wrong + b"}"


def deep_nesting(arena: Arena) -> Evidence:
    bodies = (
        b'{"inputs": ' + opening * 300_000 + closing * 300_000 + b"}"
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"))
    )
    return first(dear(arena.tenant.post_bytes(f"/classify/{TASK}", body)) for body in bodies)


def long_numbers(arena: Arena) -> Evidence:
    digits = b"9" * 1_500_000
    bodies = (b'{"inputs": "x", "top_k": ' + number + b"}" for number in (digits, b"1e" + digits, b"-" + digits))
    return first(dear(arena.tenant.post_bytes(f"/classify/{TASK}", body)) for body in bodies)


def many_parts(arena: Arena) -> Evidence:
    part = b'--b\r\nContent-Disposition: form-data; name="alias"\r\n\r\nx\r\n'
    body = part * 30_000 + b"--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return dear(arena.publisher.post_bytes(f"/tasks/{TASK}/versions", body, headers))


def long_part_headers(arena: Arena) -> Evidence:
    head = b"".join(b"X-%d: y\r\n" % number for number in range(100_000))
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="README.md"\r\n' + head + b"\r\nx\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return dear(arena.publisher.post_bytes(f"/tasks/{TASK}/versions", body, headers))


def many_parameters(arena: Arena) -> Evidence:
    query = "&".join(f"p{number}=x" for number in range(6_000))
    return first(dear(arena.tenant.get(f"{path}?{query}")) for path in ("/tasks", f"/tasks/{TASK}", "/usage"))


def gzip_bomb(arena: Arena) -> Evidence:
    return dear(arena.tenant.post_bytes(f"/classify/{TASK}", _bomb(), GZIPPED), expected=(413,))


@cache
def _bomb() -> bytes:
    """Return 1.9 MB that unpack to 1.9 GB."""
    return gzip.compress(bytes(20_000_000), 9) * 96


def empty_members(arena: Arena) -> Evidence:
    """Send a gzipped body of tens of thousands of empty members."""
    return dear(arena.tenant.post_bytes(f"/classify/{TASK}", gzip.compress(b"") * 60_000, GZIPPED))


def long_text(arena: Arena) -> Evidence:
    """Send the longest texts that a request may hold, to be cut to a task's few tokens."""
    texts = ["a gripping film " * 6_000] * 20
    answer = arena.tenant.classify(TASK, texts, truncate="end")
    return None if answer.status in (200, 413, 422, 429) else f"it failed: {answer}"


def versions_in_a_path(arena: Arena) -> Evidence:
    body = json.dumps({"inputs": "x" * 4_000_000}).encode()
    paths = (
        "/classify/versions",
        "/tei/versions",
        "/v1/versions",
        "/nothing/versions",
        f"/tasks/{TASK}/traffic/versions",
    )
    return first(_took(arena.tenant.post_bytes(path, body), path) for path in paths)


def _took(answer: Answer, path: str) -> Evidence:
    # what no route matches is refused without a look at its body
    right = answer.status in (404, 405, 413) and len(answer.body) < MAX_ANSWER_BYTES
    return None if right and (answer.status == 413 or answer.seconds < 1) else f"4 MB to {path}: {answer}"


def body_before_role(arena: Arena) -> Evidence:
    """Announce an upload of 8 MB and send none of it: the refusal must not wait for the body."""
    return first(
        _waited(arena, party, method, path, statuses)
        for party, statuses in ((arena.nobody, (401,)), (arena.tenant, (403,)))
        for method, path in (
            ("POST", f"/tasks/{TASK}/versions"),
            ("PUT", f"/tasks/{TASK}/aliases/canary"),
            ("POST", f"/admin/tenants/{MALLORY}/keys"),
        )
    )


def _waited(arena: Arena, party: Party, method: str, path: str, statuses: tuple[int, ...]) -> Evidence:
    kind = "multipart/form-data; boundary=b" if path.endswith("versions") else "application/json"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{party.key_field}Content-Type: {kind}\r\n"
    answer = _first_bytes(arena, f"{head}Content-Length: 1000000\r\n\r\n".encode())
    status = int(answer[9:12] or b"0")
    if status in statuses:
        return None
    return f"{method} {path} without its body: {answer[:60]!r}, expected {statuses[0]} before a byte of it is read"


def _first_bytes(arena: Arena, data: bytes, *, within_s: float = 2.0) -> bytes:
    with arena.connect(timeout_s=within_s) as connection:
        connection.sendall(data)
        try:
            return connection.recv(4_096)
        except TimeoutError:
            return b""


def encoded_suffix(arena: Arena) -> Evidence:
    body = json.dumps({"inputs": "x" * 4_000_000}).encode()
    paths = (f"/classify/{TASK}%2Fversions", "/classify//versions", f"/tasks/{TASK}/versions/", "/classify/%76ersions")
    return first(_took(arena.tenant.post_bytes(path, body), path) for path in paths)


_DEAR = f"it is not refused by a 4xx response of at most {MAX_ANSWER_BYTES >> 10} KB within {MAX_SECONDS:g} s"

ATTACKS = (
    Attack(
        "gzipped wrong items", Fault.VALIDATION, "tenant",
        "sends some hundred gzipped bytes that unpack to 250,000 wrong items", _DEAR, gzipped_items,
    ),
    Attack("plain wrong items", Fault.VALIDATION, "tenant", "sends 2 MB of wrong items", _DEAR, plain_items),
    Attack(
        "wrong tensors", Fault.VALIDATION, "tenant",
        "sends 250,000 wrong inputs, data, outputs and shapes to /v2", _DEAR, open_inference_items,
    ),
    Attack(
        "binary tensors", Fault.VALIDATION, "tenant",
        "sends 475,000 empty elements, and lengths of more than the body has", _DEAR, binary_tensors,
    ),
    Attack("wrong fan-out", Fault.VALIDATION, "tenant", "names 180,000 tasks", _DEAR, fan_out_tasks),
    Attack("unknown keys", Fault.VALIDATION, "tenant", "sends objects of 180,000 unknown keys", _DEAR, unknown_keys),
    Attack(
        "every array", Fault.VALIDATION, "admin",
        "sends 1 MB of wrong items as the body, and in each member, of every route", _DEAR, every_array,
    ),
    Attack("deep nesting", Fault.VALIDATION, "tenant", "nests arrays and objects 300,000 deep", _DEAR, deep_nesting),
    Attack("long numbers", Fault.VALIDATION, "tenant", "sends numbers of 1.5 million digits", _DEAR, long_numbers),
    Attack("many parts", Fault.VALIDATION, "tenant", "uploads 30,000 form fields", _DEAR, many_parts),
    Attack(
        "long part headers", Fault.VALIDATION, "tenant",
        "uploads a part with 100,000 header lines", _DEAR, long_part_headers,
    ),
    Attack("many parameters", Fault.VALIDATION, "tenant", "sends 6,000 query parameters", _DEAR, many_parameters),
    Attack("gzip bomb", Fault.VALIDATION, "tenant", "sends 2 MB that unpack to 1.9 GB", "it is not 413", gzip_bomb),
    Attack("empty gzip members", Fault.VALIDATION, "tenant", "sends 60,000 empty members", _DEAR, empty_members),
    Attack(
        "longest texts", Fault.COST, "tenant", "sends 1.9 MB of text, of which each row is cut to 256 tokens",
        "it fails", long_text, is_long=True,
    ),
    Attack(
        "paths that look like uploads", Fault.ROUTES, "tenant",
        "sends 4 MB to paths that end in /versions", "it is read as an upload's body", versions_in_a_path,
    ),
    Attack(
        "body before the role", Fault.ROUTES, "nobody",
        "announces a body without a key, or with a `classify` key, to routes that need more, and never sends it",
        "the refusal does not come within 2 s", body_before_role,
    ),
    Attack(
        "encoded paths", Fault.ROUTES, "tenant", "sends 4 MB to paths with encoded or doubled slashes",
        "it is read as an upload's body", encoded_suffix,
    ),
)  # fmt: skip
