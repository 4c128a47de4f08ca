"""What a server may answer to a mutated upload, and whether an upload that it took is truly valid."""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from adapters.files import CONFIG, MANIFEST, SIZE_LIMITS, TENSOR, WEIGHTS, from_files
from benchmarks.common.http_load import Reply
from service.api.problems import FRAMEWORK_CODES, MEDIA_TYPE, PROBLEM_TYPES
from verification.upload_fuzz.mutations import Mutated

ALLOWED = frozenset({200, 201, 400, 409, 413, 415, 422, 429})
_CODES = frozenset({kind.code for kind in PROBLEM_TYPES.values()} | set(FRAMEWORK_CODES.values()) | {"invalid_request"})
_SUM_TOLERANCE = 1e-3
_OF_THE_TASK = ("brace", "fields", "characters", "surrogate", "labels", "blank", "twice", "number", "rise")
"""What a refusal of the task as a whole may be about: by a word of its text."""


NAMED_CHECKS = (
    "files",
    "file name",
    *(f"size of {name}" for name in SIZE_LIMITS),
    CONFIG,
    *(f"{CONFIG}: {key}" for key in ("peft_type", "task_type", "num_virtual_tokens", "token_dim")),
    f"{CONFIG}: num_transformer_submodules",
    WEIGHTS,
    f"{WEIGHTS}: tensors",
    *(f"{WEIGHTS}: {what} of {TENSOR}" for what in ("dtype", "shape", "rows")),
    "prompt shape",
    "prompt values",
    "prompt row norm",
    "prompt width",
    "backbone fingerprint",
    MANIFEST,
    *(f"{MANIFEST}: task ({word})" for word in _OF_THE_TASK),
    *(f"{MANIFEST}: {key}" for key in ("schema_version", "task", "backbone", "provenance", "validation")),
    *(f"{MANIFEST}: task.{key}" for key in ("labels", "labels.#.name", "labels.#.words", "max_tokens", "kind")),
    "label words",
    "label trie nodes",
    "tokens of label #",
    "smoke forward",
)
"""What refusals are expected to be about; a run says which never came."""


@dataclass(slots=True)
class Findings:
    """What a run saw."""

    max_seconds: float = 1.0
    """How long an answer may take from the upload's last byte."""
    statuses: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    """Refusals by their code, or by their check where they have one."""
    mutations: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of each upload, from its last byte to its answer's."""
    late: list[Mutated] = field(default_factory=list)
    """Uploads that took longer than they may, with others beside them; sent again alone."""
    accepted: int = 0
    violations: list[tuple[Mutated, str]] = field(default_factory=list)

    def took(self, upload: Mutated, seconds: float) -> None:
        """Note how long an answer took; to half a request it says nothing."""
        if upload.is_http:
            self.seconds.append(seconds)
            if seconds > self.max_seconds:
                self.late.append(upload)


def unreached(found: Findings) -> list[str]:
    """Named checks that refused nothing."""
    return [check for check in NAMED_CHECKS if check not in found.checks]


def wrong_with(upload: Mutated, reply: Reply | None, found: Findings) -> str | None:
    """Why an answer is none that a server may give, or None; counts it."""
    if reply is None:
        found.statuses["hung up"] += 1
        return None if not upload.is_http else "the server hung up without an answer"
    found.statuses[str(reply.status)] += 1
    if reply.status in {200, 201}:
        return None
    if not upload.is_http and reply.status == 400 and MEDIA_TYPE.encode() not in reply.head:
        found.checks["(no HTTP)"] += 1
        return None
    try:
        problem = reply.json()
    except ValueError:
        problem = {}
    if reply.status not in ALLOWED or problem.get("code") not in _CODES or problem.get("status") != reply.status:
        return f"{reply.status} {reply.body[:300]!r}"
    if problem["code"] == "invalid_adapter" and not (problem.get("check") and problem.get("expected")):
        return f"no check is named: {reply.body[:300]!r}"
    found.checks[check_of(problem)] += 1
    return None


def check_of(problem: dict[str, Any]) -> str:
    """The check that a refusal names, places in lists left out; its code where it names none."""
    check = re.sub(r"\.\d+", ".#", re.sub(r"label \d+", "label #", str(problem.get("check", problem["code"]))))
    where, _, place = check.partition(": ")
    if check == "superpos.json: task":
        said = str(problem["expected"])
        return f"{check} ({next((word for word in _OF_THE_TASK if word in said), said[:40])})"
    if len(place) > 60:  # a key that the mutation invented
        return f"{where}: {place[:20]}…"
    return check


async def wrong_with_accepted(client: httpx2.AsyncClient, task: str, reply: Reply) -> str | None:
    """Why an upload that was taken is no valid adapter after all, or None. Removes it from the server."""
    published = reply.json()
    digest, version = published["adapter"], published["version"]
    path = f"/tasks/{task}/versions/{version}/files"
    names = (await client.get(path)).raise_for_status().json()["files"]
    files = {name: (await client.get(f"{path}/{name}")).raise_for_status().content for name in names}
    adapter = from_files(files)
    if adapter.digest != digest:
        return f"its files have the digest {adapter.digest}, it was taken as {digest}"
    item = dict.fromkeys(adapter.spec.fields, "flat")
    body = {"inputs": item, "truncate": "end", "top_k": len(adapter.spec.labels)}
    answer = await client.post(f"/classify/{task}@{digest}", json=body)
    await _remove(client, task, version)
    return _wrong_answer(answer, digest, adapter.spec.label_names)


def _wrong_answer(answer: httpx2.Response, digest: str, names: tuple[str, ...]) -> str | None:
    if answer.status_code != 200:
        return f"it was taken, and a classification gets {answer.status_code} {answer.text[:300]}"
    prediction = answer.json()["predictions"][0]
    scores = prediction["scores"]
    if answer.json()["adapter"] != digest or set(scores) != set(names):
        return f"another adapter answers: {json.dumps(answer.json())[:300]}"
    if not all(map(math.isfinite, scores.values())) or abs(sum(scores.values()) - 1) > _SUM_TOLERANCE:
        return f"its scores are no distribution: {json.dumps(scores)[:300]}"
    return None


async def _remove(client: httpx2.AsyncClient, task: str, version: int) -> None:
    aliases = (await client.get(f"/tasks/{task}")).raise_for_status().json()["aliases"]
    for alias in aliases:
        (await client.delete(f"/tasks/{task}/aliases/{alias}")).raise_for_status()
    (await client.delete(f"/tasks/{task}/versions/{version}")).raise_for_status()
