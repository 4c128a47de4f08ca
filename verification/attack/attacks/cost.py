"""Attacks by requests that cost more than their charge: tries, long texts, searches, memory, refused requests."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from verification.attack.adapters import WIDE_LABELS
from verification.attack.arena import LONG, TASK, WIDE, Answer, Arena, wait_for
from verification.attack.attack import Attack, Evidence, Fault

_REFUSALS = (413, 422, 429, 504)
"""Statuses of a bounded refusal; 504 if the attacker has waited until its own deadline."""
MAX_STALL_S = 0.15
"""How long others may wait while a large answer is computed and written; in one go that takes 0.4 s."""
MAX_KEPT_BYTES = 300 << 20
"""Memory that one attack may leave behind; the kernels' own caches take some of it."""


def left(answer: Answer) -> int | None:
    """Return how many tokens the tenant may still use, by the header `RateLimit`; None if it is missing."""
    for limit in answer.headers.get("RateLimit", "").split(", "):
        name, _, rest = limit.partition(";r=")
        if name == '"tokens"':
            return int(rest.partition(";")[0])
    return None


def _charged(before: Answer, after: Answer) -> int | None:
    """Return the tokens between two answers; None across the end of a window."""
    first, last = left(before), left(after)
    return None if first is None or last is None or last > first else first - last


def _under_charged(arena: Arena, ref: str, inputs: object, *, least: int, **members: object) -> Evidence:
    """Return evidence if a request is answered for less than `least` tokens."""
    tenant = arena.tenant  # her limit is far away; the header counts down from it
    before = tenant.classify(TASK, "x")
    answer = tenant.classify(ref, inputs, **members)
    if answer.status in _REFUSALS:
        return None
    if answer.status != 200:
        return f"it failed: {answer}"
    charged = _charged(before, answer)
    return None if charged is None or charged >= least else f"{charged} tokens are charged, at least {least} are right"


def wide_trie(arena: Arena) -> Evidence:
    """Ask for all 400 labels of a text of three tokens."""
    return _under_charged(arena, WIDE, _short(arena), least=WIDE_LABELS - 100, top_k=WIDE_LABELS)


def wide_rows(arena: Arena) -> Evidence:
    """Ask for all 400 labels of 40 texts at once."""
    return _under_charged(
        arena, WIDE, [_short(arena) for _ in range(40)], least=40 * (WIDE_LABELS - 100), top_k=WIDE_LABELS
    )


def long_texts(arena: Arena) -> Evidence:
    """Send the longest texts that a task may take."""
    texts = [f"{arena.number()} " + "a gripping film " * 600 for _ in range(4)]
    return _under_charged(arena, LONG, texts, least=4_000, truncate="end")


def empty_prompts(arena: Arena) -> Evidence:
    """Send 256 texts of one character, which cost the model ten prompt tokens each."""
    return _under_charged(arena, TASK, [_short(arena) for _ in range(256)], least=256 * 10)


def _short(arena: Arena) -> str:
    """Return a text of some characters that was not sent before: no answer comes from the cache."""
    return str(arena.number())


def almost_all_labels(arena: Arena) -> Evidence:
    """Search for all labels but one, for 40 rows."""
    answer = arena.tenant.classify(WIDE, [_short(arena) for _ in range(40)], top_k=WIDE_LABELS - 1)
    if answer.status in _REFUSALS:
        return None
    if answer.status != 200 or answer.seconds > 40:
        return f"it took {answer.seconds:.0f} s: {answer}"
    return None


def every_k(arena: Arena) -> Evidence:
    """Search for 6, 50 and 200 of 400 labels: each number gives the search another budget."""
    for k in (6, 50, 200):
        evidence = _under_charged(arena, WIDE, [_short(arena) for _ in range(8)], least=8 * 10, top_k=k)
        if evidence is not None:
            return f"top_k {k}: {evidence}"
    return None


def trials(arena: Arena) -> Evidence:
    """Upload adapters of 400 labels repeatedly; each is tried on the model."""
    publisher, _ = arena.new_tenant(tokens_per_min=1_000)
    statuses = [
        publisher.upload(f"wide-{number}", arena.make.wide(seed=10_000 + arena.number())).status for number in range(6)
    ]
    return f"six trials of 400 labels within 1,000 tokens a minute: {statuses}" if statuses.count(201) > 2 else None


def over_the_caps(arena: Arena) -> Evidence:
    """Upload tasks of longer texts and larger tries than a server takes."""
    for adapter in (arena.make.long(seed=9_000, max_tokens=4_096), arena.make.deep(seed=9_001)):
        answer = arena.publisher.upload(f"over-{arena.number()}", adapter, aliases=[""])
        if not 400 <= answer.status < 500:
            return f"it was not refused: {answer}"
    return None


def shadowed(arena: Arena) -> Evidence:
    """Let every request run its rows again as a shadow."""
    task = f"shadowed-{arena.number()}"
    arena.publisher.upload(task, arena.make.small(seed=5_000))
    arena.publisher.upload(task, arena.make.small(seed=5_001), aliases=["next"])
    arena.publisher.send("PUT", f"/tasks/{task}/traffic", json={"shadow": 2})
    with ThreadPoolExecutor(2) as pool:
        statuses = [
            answer.status
            for answer in pool.map(lambda _: arena.tenant.classify(task, [_short(arena) for _ in range(32)]), range(8))
        ]
    return None if set(statuses) <= {200, 429} else f"it was answered {statuses}"


def long_text_memory(arena: Arena) -> Evidence:
    """Send long texts, each longer than the last: tables for the longest text must not stay."""
    before = arena.target.resident_bytes
    for words in (100, 200, 400, 1_400):
        arena.tenant.classify(LONG, f"{_short(arena)} " + "a gripping film " * words, truncate="end")
    time.sleep(0.5)
    kept = arena.target.resident_bytes - before
    return f"texts of thousands of tokens keep {kept >> 20} MB" if kept > MAX_KEPT_BYTES else None


def wide_memory(arena: Arena) -> Evidence:
    """Ask for all labels of ten adapters with different tries of 400 labels."""
    before = arena.target.resident_bytes
    for number in range(10):
        task = f"memory-{arena.number()}"
        made = arena.publisher.upload(task, arena.make.wide(seed=20_000 + number))
        if made.status == 201:
            arena.tenant.classify(task, [_short(arena) for _ in range(8)], top_k=WIDE_LABELS)
            arena.publisher.send("DELETE", f"/tasks/{task}/aliases/production")
            arena.publisher.send("DELETE", f"/tasks/{task}/versions/1")
    kept = arena.target.resident_bytes - before
    return f"ten tries of 400 labels keep {kept >> 20} MB" if kept > MAX_KEPT_BYTES else None


def refused_by_the_queue(arena: Arena) -> Evidence:
    """Send more tokens than the queue takes."""
    tenant = arena.tenant  # her limit is far away; the header counts down from it
    before = tenant.classify(TASK, "x")
    answer = tenant.classify(TASK, [f"{number} " + "a gripping film " * 80 for number in range(256)], truncate="end")
    if answer.status not in (413, 422, 429):
        return None  # an idle server takes it
    charged = _charged(before, answer)
    return f"{charged} tokens are charged for {answer}" if charged else None


def refused_by_the_model(arena: Arena) -> Evidence:
    """Send requests in which only some rows are too long."""
    tenant = arena.tenant  # her limit is far away; the header counts down from it
    before = tenant.classify(TASK, "x")
    bad = (["x"] * 20 + ["a gripping film " * 400], ["x"] * 20 + [""], [{"sentence": "x"}, {"other": "y"}])
    for inputs in bad:
        answer = tenant.classify(TASK, inputs)
        charged = _charged(before, answer)
        if charged:
            return f"{charged} tokens are charged for {answer}"
    return None


def cancelled_slots(arena: Arena) -> Evidence:
    """Take all concurrency slots and hang up: a slot must be free again at once."""
    publisher, tenant = arena.new_tenant(max_concurrency=2)
    publisher.upload(TASK, arena.make.small(seed=3))
    key = arena.new_key(tenant, "classify")
    body = b'{"inputs": "a gripping film"}'
    head = f"POST /classify/{TASK} HTTP/1.1\r\nHost: x\r\n{key.key_field}"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(4):
        with arena.connect() as half, arena.connect() as whole:
            half.sendall(request + body[:5])
            whole.sendall(request + body)
    answers: list[Answer] = []

    def is_free() -> bool:  # more than once: a first request may overtake those of the closed connections
        answers[:] = [key.classify(TASK, "x") for _ in range(4)]
        return all(answer.status == 200 for answer in answers)

    if wait_for(is_free, within_s=10):
        return None
    return f"10 s after its clients have hung up: {next(each for each in answers if each.status != 200)}"


def limits_over_workers(arena: Arena) -> Evidence:
    """Spread requests over many connections, which different server processes answer."""
    tenant, name = arena.new_tenant(requests_per_s=0.0001)  # ten requests in a window of a day
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: tenant.elsewhere().get("/limits").status, range(48)))
    admitted = statuses.count(200)
    if admitted == 0:
        raise RuntimeError(f"no request of tenant {name} was admitted: {sorted(set(statuses))}")
    return f"{admitted} requests were admitted, 10 are permitted" if admitted > 10 else None


def large_answers(arena: Arena) -> Evidence:
    """Ask for all 1,000 labels of 256 texts, up to three times, and watch how long other clients wait."""
    task = "large-answers"
    published = arena.publisher.upload(task, arena.make.head(num_labels=1_000))
    if not 200 <= published.status < 300:
        return f"the task was not published: {published}"
    waits = []
    for _ in range(3):
        texts = [_short(arena) for _ in range(256)]
        usual, _ = _wait_beside(arena, TASK, texts)
        wait, answer = _wait_beside(arena, task, texts, top_k=1_000)
        if answer.status not in (200, *_REFUSALS):
            return f"it failed: {answer}"
        if wait <= max(MAX_STALL_S, 3 * usual):
            return None
        waits.append(f"{wait:.2f} s instead of {usual:.2f}")
    return f"other clients waited {', '.join(waits)}"


def _wait_beside(arena: Arena, task: str, texts: Sequence[str], **members: object) -> tuple[float, Answer]:
    """Return how long another client waits at most while a request is answered, and the answer."""
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(arena.tenant.classify, task, texts, **members)
        while not asked.done():
            longest = max(longest, arena.nobody.get("/healthz/live").seconds)
    return longest, asked.result()


def many_tasks(arena: Arena) -> Evidence:
    """Ask 32 times for the same 400 labels in one request."""
    answer = arena.tenant.post(
        "/classify", {"tasks": [WIDE] * 32, "inputs": [_short(arena) for _ in range(8)], "top_k": WIDE_LABELS - 1}
    )
    if answer.status in (200, *_REFUSALS) and answer.seconds < 40:
        return None
    return f"it took {answer.seconds:.0f} s: {answer}"


_LARGE = f"other clients wait more than {MAX_STALL_S:g} s and 3 × as long as usual, three times in a row"
_UNDER = "fewer tokens are charged than the model packs or decodes"

ATTACKS = (
    Attack("a wide trie", Fault.COST, "tenant", "asks for 400 labels of a text of three tokens", _UNDER, wide_trie),
    Attack(
        "wide rows", Fault.COST, "tenant", "asks for 400 labels of 40 texts at once", _UNDER, wide_rows, is_long=True
    ),
    Attack("long texts", Fault.COST, "tenant", "sends texts of 1,024 tokens", _UNDER, long_texts, is_long=True),
    Attack("short texts", Fault.COST, "tenant", "sends 256 texts of a character", _UNDER, empty_prompts),
    Attack(
        "trials", Fault.COST, "tenant", "uploads 400 labels six times within a limit of 1,000 tokens a minute",
        "more than two are tried", trials, is_long=True,
    ),
    Attack(
        "over the caps", Fault.COST, "tenant", "uploads tasks of 4,096 tokens and of thousands of label nodes",
        "they are accepted", over_the_caps,
    ),
    Attack(
        "shadows", Fault.COST, "tenant", "lets cheap requests run a shadow",
        "a request fails", shadowed,
    ),
    Attack(
        "all labels but one", Fault.SEARCH, "tenant", "searches for 399 of 400 labels of 40 texts",
        "it takes more than 40 s or ends the server", almost_all_labels, is_long=True,
    ),
    Attack(
        "large answers", Fault.SEARCH, "tenant", "asks for all 1,000 labels of 256 texts", _LARGE, large_answers,
    ),
    Attack("some labels", Fault.SEARCH, "tenant", "searches for 6, 50 and 200 of 400 labels", _UNDER, every_k),
    Attack(
        "a fan-out of tries", Fault.SEARCH, "tenant", "asks 32 times for 399 of 400 labels in one request",
        "it takes more than 40 s or ends the server", many_tasks, is_long=True,
    ),
    Attack(
        "a limit over workers", Fault.COST, "tenant", "sends 48 requests of 10 permitted over many connections",
        "more than 10 are admitted", limits_over_workers, repeats=False,
    ),
    Attack(
        "a long text's tables", Fault.MEMORY, "tenant", "sends texts of up to 1,024 tokens",
        f"the server keeps {MAX_KEPT_BYTES >> 20} MB", long_text_memory, is_long=True, repeats=False,
    ),
    Attack(
        "tries in memory", Fault.MEMORY, "tenant", "serves and deletes ten adapters of 400 labels",
        f"the server keeps {MAX_KEPT_BYTES >> 20} MB", wide_memory, is_long=True, repeats=False,
    ),
    Attack(
        "refused by the queue", Fault.REFUSED, "tenant", "sends more tokens than the queue takes",
        "the refused tokens are charged", refused_by_the_queue, is_long=True,
    ),
    Attack(
        "refused rows", Fault.REFUSED, "tenant", "sends requests of which one row is impossible",
        "the refused tokens are charged", refused_by_the_model,
    ),
    Attack(
        "cancelled requests", Fault.REFUSED, "tenant", "takes all of its concurrency slots and hangs up",
        "it is still refused after 10 s", cancelled_slots,
    ),
)  # fmt: skip
