"""Attacks on training jobs: another tenant's jobs, work beyond the limits, and what a trainer would read or write."""

import secrets
from concurrent.futures import ThreadPoolExecutor

from verification.attack.arena import TASK, Answer, Arena, Party
from verification.attack.attack import Attack, Evidence, Fault

_TEMPLATE = {"template": "{text}", "labels": ["no", "yes"]}
_CLEAR = "\x1b[2J"
_LIMIT = 2
_MAX_ROWS = 20


def _rows(count: int, text: str = "a text") -> list[dict[str, str]]:
    return [{"input": f"{text} {index}", "label": ("no", "yes")[index % 2]} for index in range(count)]


def _submit(party: Party, task: str = "job", /, **body: object) -> Answer:
    return party.post(f"/tasks/{task}/jobs", {"task": _TEMPLATE, "rows": _rows(4), **body})


def others_jobs(arena: Arena) -> Evidence:
    """List, read, cancel and delete another tenant's job by its id and its task."""
    victim, _ = arena.new_tenant()
    text = f"secret {secrets.token_hex(8)}"
    made = _submit(victim, "private", rows=_rows(4, text))
    assert made.status == 201, made
    job, absent = made.json()["id"], "0" * 24
    mallory = arena.publisher
    for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
        answer = mallory.send(method, f"/jobs/{job}{path}")
        unknown = mallory.send(method, f"/jobs/{absent}{path}")
        if answer.status != 404:
            return f"{method} of another tenant's job: {answer}"
        if answer.json()["detail"].replace(job, absent) != unknown.json()["detail"]:
            return f"a job of another tenant differs from none: {answer} and {unknown}"
    for path in ("/jobs", "/jobs?task=private"):
        if job in (listed := mallory.get(path)).text:
            return f"another tenant's job is listed: {listed}"
    reader = arena.tenant
    for method, path in (("GET", "/jobs"), ("GET", f"/jobs/{job}"), ("POST", "/tasks/job/jobs")):
        answer = reader.send(method, path, json={"rows": _rows(4)}) if method == "POST" else reader.get(path)
        if answer.status != 403:
            return f"{method} {path} with a classify key: {answer}"
    found = victim.get(f"/jobs/{job}")
    victim.send("DELETE", f"/jobs/{job}")
    if found.status != 200 or found.json()["status"] != "queued":
        return f"the victim's job changed: {found}"
    return f"a job shows a text: {found}" if text in found.text else None


def beyond_limits(arena: Arena) -> Evidence:
    """Queue more jobs and rows than the tenant may have, from many connections at the same time."""
    mallory, _ = arena.new_tenant(max_jobs=_LIMIT, max_job_rows=_MAX_ROWS)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(_submit, [mallory.elsewhere() for _ in range(8)]))
    strange = [answer for answer in answers if answer.status not in (201, 409)]
    queued = mallory.get("/jobs").json()["jobs"]
    over = [
        _submit(mallory, rows=_rows(_MAX_ROWS + 1)),
        _submit(mallory, rows=_rows(_MAX_ROWS), validation=_rows(1)),
    ]
    for job in queued:
        mallory.send("DELETE", f"/jobs/{job['id']}")
    if strange:
        return f"a job: {strange[0]}"
    if len(queued) != _LIMIT:
        return f"{len(queued)} jobs are queued, the limit is {_LIMIT}"
    if any(answer.status != 409 for answer in over):
        return f"more rows than the limit: {over}"
    kept = mallory.get("/jobs").json()["jobs"]
    return f"deleted jobs are listed: {kept}" if kept else None


def names_and_places(arena: Arena) -> Evidence:
    """Name tasks, jobs and arguments so that a trainer would read or write elsewhere, or a terminal would act."""
    mallory = arena.publisher
    for task in ("..%2Fother", "..", "a%2Fb", "a%00b", "A b", "x" * 200, "%1b%5b2J", "-rf", ".hidden"):
        answer = mallory.post(f"/tasks/{task}/jobs", {"task": _TEMPLATE, "rows": _rows(4)})
        if answer.status < 400 or answer.status >= 500:
            return f"the task {task!r}: {answer}"
    for job in ("..", "%2e%2e%2ftasks", "x" * 300, "%00", "0" * 23 + "g", "%1b%5b2J"):
        answer = mallory.get(f"/jobs/{job}")
        if job != ".." and answer.status not in (400, 404, 422):
            return f"the job {job!r}: {answer}"
    for body in (
        {"task": {**_TEMPLATE, "data": {"train": "/etc/passwd"}}},
        {"task": {**_TEMPLATE, "description": _CLEAR}},
        {"task": {**_TEMPLATE, "labels": ["no", f"yes{_CLEAR}"]}},
        {"task": {**_TEMPLATE, "template": "{text.__class__}"}},
        {"arguments": {"sources": ["/etc"]}},
        {"arguments": {"method": "full"}},
        {"arguments": {"epochs": 10**9}},
        {"arguments": {"batch_size": 10**9}},
        {"arguments": {"preset": "../x"}},
        {"file": "hf://owner/data"},
    ):
        answer = _submit(mallory, **body)
        if answer.status != 422:
            return f"a job with {body}: {answer}"
        if _CLEAR in answer.text:
            return f"a refusal has an escape: {answer}"
    left = [job for job in mallory.get("/jobs").json()["jobs"] if job["task"] != TASK]
    return f"a refused job is queued: {left}" if left else None


ATTACKS = (
    Attack(
        "another's training jobs", Fault.ROLES, "tenant",
        "lists, reads, cancels and deletes another tenant's job; lists and submits jobs with a classify key",
        "one is answered, changed or listed, differs from a job that does not exist, or shows a text", others_jobs,
    ),
    Attack(
        "jobs beyond the limit", Fault.GROWTH, "tenant", "queues more jobs and rows than it may, eight at a time",
        "more than its limit is queued, or an answer is not 201 or 409", beyond_limits,
    ),
    Attack(
        "jobs that name places", Fault.TEXT, "tenant",
        "names tasks, jobs, files and arguments that lead a trainer elsewhere, cost too much, or act on a terminal",
        "one is accepted, is answered with a 5xx, or a refusal has an escape", names_and_places,
    ),
)  # fmt: skip
