"""Attacks on kept texts and corrections: another tenant's rows, storage growth, and texts that act on their reader."""

import json
import secrets

from verification.attack.arena import TASK, Answer, Arena, Party, wait_for
from verification.attack.attack import Attack, Evidence, Fault, first

_KEPT_WITHIN_S = 10.0
"""Seconds until an answer must be kept, which another server process may write."""
_CLEAR = "\x1b[2J\x1b]0;owned\x07"
_MAX_BYTES = 100_000


def _keeper(arena: Arena, **limits: object) -> Party:
    """Create a tenant that keeps its texts, with a task; return its `publish` key."""
    party, _ = arena.new_tenant(retention_days=1, **limits)
    made = party.upload(TASK, arena.make.small(seed=40_000 + arena.number()))
    assert made.status == 201, made
    return party


def _correct(party: Party, **body: object) -> Answer:
    return party.post("/feedback", {"label": "positive", **body})


def _rows(party: Party, view: str = "corrections") -> list[dict[str, object]]:
    rows: list[dict[str, object]] = party.get(f"/tasks/{TASK}/feedback?view={view}&limit=1000").json()["rows"]
    return rows


def _kept(victim: Party, text: str) -> tuple[str, str]:
    """Let a tenant classify and correct a text; return the ids of its request and of the row."""
    request_id = f"guessable-{secrets.token_hex(4)}"
    victim.send("POST", f"/classify/{TASK}", json={"inputs": text}, headers={"X-Request-ID": request_id})
    assert wait_for(
        lambda: _correct(victim, request_id=request_id, who="ann").status == 201, within_s=_KEPT_WITHIN_S
    ), "the victim's own answer cannot be corrected"
    return request_id, str(_rows(victim)[0]["id"])


def others_rows(arena: Arena) -> Evidence:
    """Correct, list, export and delete another tenant's rows by everything that names them."""
    victim, mallory = _keeper(arena), _keeper(arena)
    text = f"secret {secrets.token_hex(8)}"
    request_id, row = _kept(victim, text)
    before = _rows(victim)
    absent = "0" * 24
    answers = [
        _correct(mallory, request_id=request_id, label="negative"),
        _correct(mallory, request_id=request_id, task=TASK, index=0),
        _correct(mallory, id=row, label="negative"),
        mallory.get(f"/tasks/{TASK}/feedback?view=corrections"),
        mallory.get(f"/tasks/{TASK}/feedback?cursor=0.0~{row}"),
        mallory.get(f"/tasks/{TASK}/feedback/export"),
        mallory.send("DELETE", f"/feedback?id={row}"),
        mallory.send("DELETE", "/feedback?who=ann"),
        mallory.send("DELETE", f"/feedback?task={TASK}"),
        mallory.send("DELETE", "/feedback?all=true"),
    ]
    for answer in answers:
        if text in answer.text:
            return f"another tenant's text: {answer}"
    if any(answer.status < 400 for answer in answers[:3]):
        return f"another tenant's row was corrected: {answers[:3]}"
    if _rows(victim) != before:
        return f"another tenant's rows changed: {before} became {_rows(victim)}"
    known, unknown = answers[2], _correct(mallory, id=absent, label="negative")
    if known.json()["detail"].replace(row, absent) != unknown.json()["detail"]:
        return f"a row of another tenant differs from none: {known} and {unknown}"
    return None


def readers(arena: Arena) -> Evidence:
    """Read, export and delete kept texts with a `classify` key, and read a text by correcting its request."""
    victim, tenant = arena.new_tenant(retention_days=1)
    made = victim.upload(TASK, arena.make.small(seed=40_000 + arena.number()))
    assert made.status == 201, made
    reader = arena.new_key(tenant, "classify")
    text = f"secret {secrets.token_hex(8)}"
    request_id, row = _kept(victim, text)
    for method, path in (
        ("GET", "/feedback"),
        ("GET", f"/tasks/{TASK}/feedback"),
        ("GET", f"/tasks/{TASK}/feedback/export"),
        ("DELETE", "/feedback?all=true"),
        ("DELETE", f"/feedback?id={row}"),
    ):
        answer = reader.send(method, path)
        if answer.status != 403:
            return f"{method} {path} with a classify key: {answer}"
    for body in ({"request_id": request_id}, {"id": row}):
        answer = _correct(reader, **body)
        if text in answer.text:
            return f"a correction shows the text: {answer}"
    return None


def without_opt_in(arena: Arena) -> Evidence:
    """Correct, list and export as a tenant that has not opted in; its texts must be nowhere."""
    text = f"unwanted {secrets.token_hex(8)}"
    request_id = f"unwanted-{secrets.token_hex(4)}"
    arena.publisher.send("POST", f"/classify/{TASK}", json={"inputs": text}, headers={"X-Request-ID": request_id})
    for body in ({"request_id": request_id}, {"task": TASK, "input": text}):
        answer = _correct(arena.publisher, **body)
        if answer.status != 409:
            return f"a correction without opt-in: {answer}"
    for path in (f"/tasks/{TASK}/feedback", f"/tasks/{TASK}/feedback/export"):
        answer = arena.publisher.get(path)
        if answer.status != 409:
            return f"GET {path} without opt-in: {answer}"
    stored = [path for path in arena.target.folder.rglob("*") if path.is_file() and _has(path.read_bytes(), text)]
    return f"the text is in {stored}" if stored else None


def _has(data: bytes, text: str) -> bool:
    return text.encode() in data


def filled_storage(arena: Arena) -> Evidence:
    """Fill the storage with corrections and with kept answers, far beyond the tenant's bytes."""
    mallory = _keeper(arena, max_feedback_bytes=_MAX_BYTES)
    for number in range(20):
        mallory.classify(TASK, [f"filler {number} {row} " + "x" * 500 for row in range(20)])
    refused = 0
    for number in range(60):
        answer = _correct(mallory, task=TASK, input=f"correction {number} " + "y" * 4_000, who="w" * 200)
        refused += answer.status == 409
        if answer.status not in (201, 409):
            return f"a correction: {answer}"
    state = mallory.get("/feedback").json()
    total = state["kept_bytes"] + state["corrected_bytes"]
    if total > _MAX_BYTES:
        return f"{total} bytes are kept, the limit is {_MAX_BYTES}"
    return None if refused else f"60 corrections of 4 KB were stored in {_MAX_BYTES} bytes"


def acting_texts(arena: Arena) -> Evidence:
    """Put escapes, line breaks and formulas into labels, persons and texts, and read the export and the list."""
    mallory = _keeper(arena)
    labels = ("=1+1", f"positive{_CLEAR}", "positive\n", 'positive", "x": "', "", "x" * 2_000, ["positive"], [], None)
    for label in labels:
        answer = _correct(mallory, task=TASK, input="a text", label=label)
        if answer.status != 422:
            return f"label {label!r}: {answer}"
    for who in (_CLEAR, "ann\u202e", "ann\nbob", "", "x" * 201):
        answer = _correct(mallory, task=TASK, input="a text", who=who)
        if answer.status != 422:
            return f"person {who!r}: {answer}"
    text = f'=cmd|"/c calc"!A1\r\n{{"label": "negative"}}\u2028\u0085{_CLEAR}'
    stored = _correct(mallory, task=TASK, input=text)
    if stored.status != 201:
        return f"a text is not stored: {stored}"
    exported = mallory.get(f"/tasks/{TASK}/feedback/export")
    lines = exported.text.splitlines()
    if len(lines) != 1 or text not in json.loads(lines[0])["input"].values():
        return f"one correction is exported as {len(lines)} lines: {exported}"
    if any(character in exported.text for character in "\x1b\x07\u2028\u0085"):
        return f"an export has a character that acts: {exported.text!r}"
    return None


def printed_rows(arena: Arena) -> Evidence:
    """Let the command list and export texts with escapes."""
    mallory = _keeper(arena)
    _correct(mallory, task=TASK, input=f"a text {_CLEAR}")
    commands = (("list", TASK, "--by", "corrections"), ("export", TASK, "--out", "-"))
    return first(_escape(arena, mallory, *words) for words in commands)


def _escape(arena: Arena, party: Party, *words: str) -> Evidence:
    shown = arena.cli("feedback", *words, key=party.key).stdout
    return f"superpos feedback {' '.join(words)} prints an escape: {shown[:200]!r}" if "\x1b[2J" in shown else None


ATTACKS = (
    Attack(
        "another's kept texts", Fault.ROLES, "tenant",
        "corrects, lists, exports and deletes another tenant's rows by request id, row id, person and task",
        "one is answered, shown or changed, or differs from a row that does not exist", others_rows,
    ),
    Attack(
        "kept texts for readers", Fault.ROLES, "tenant", "reads, exports and deletes kept texts with a classify key",
        "it is not 403, or a correction shows the text", readers,
    ),
    Attack(
        "texts without opt-in", Fault.GROWTH, "tenant", "corrects answers of a tenant that has not opted in",
        "it is accepted, or the text is in a file of the server", without_opt_in,
    ),
    Attack(
        "corrections beyond the limit", Fault.GROWTH, "tenant", "stores texts and corrections far beyond its bytes",
        "more than its limit is kept, or nothing is refused", filled_storage,
    ),
    Attack(
        "labels and texts that act", Fault.TEXT, "tenant", "puts escapes and formulas into labels, persons, texts",
        "a label or person is accepted, or the export has another line or an escape", acting_texts,
    ),
    Attack(
        "kept texts in a terminal", Fault.TEXT, "tenant", "lets the command list and export texts with escapes",
        "it prints one", printed_rows, repeats=False, is_long=True,
    ),
)  # fmt: skip
