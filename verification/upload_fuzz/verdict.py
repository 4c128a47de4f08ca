"""Verdict on the response to a mutated upload, and on the validity of accepted uploads."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from adapters.files import CONFIG, MANIFEST, READOUT, SIZE_LIMITS, TENSOR, WEIGHTS, from_files
from adapters.readout import BIAS, VECTORS
from adapters.task import TaskSpec
from benchmarks.common.http_load import Reply
from service.api.problems import FRAMEWORK_CODES, MEDIA_TYPE, PROBLEM_TYPES
from verification.upload_fuzz.mutations import Mutated

ALLOWED = frozenset({200, 201, 400, 409, 412, 413, 415, 422, 429})
_CODES = frozenset({kind.code for kind in PROBLEM_TYPES.values()} | set(FRAMEWORK_CODES.values()) | {"invalid_request"})
_SUM_TOLERANCE = 1e-3
_OF_THE_TASK = ("brace", "fields", "characters", "surrogate", "labels", "blank", "twice", "number", "rise", "readout")
"""Checks of a whole task, by a word of the refusal's text."""


_PARTS = ("schema_version", "readout", "task", "backbone", "calibration", "provenance", "validation")
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
    READOUT,
    f"{READOUT}: tensors",
    f"{READOUT}: labels",
    *(f"{READOUT}: {what} of {name}" for what, name in (("dtype", VECTORS), ("dtype", BIAS), ("shape", VECTORS))),
    VECTORS,
    BIAS,
    *(f"{name} values" for name in (VECTORS, BIAS)),
    f"{VECTORS} norm",
    f"{BIAS} value",
    f"{VECTORS} width",
    "prompt shape",
    "prompt values",
    "prompt row norm",
    "prompt width",
    "backbone fingerprint",
    MANIFEST,
    *(f"{MANIFEST}: task ({word})" for word in _OF_THE_TASK),
    *(f"{MANIFEST}: {key}" for key in _PARTS),
    *(f"{MANIFEST}: task.{key}" for key in ("labels", "labels.#.name", "labels.#.words", "max_tokens", "kind")),
    "label words",
    "label trie nodes",
    "tokens of label #",
    "smoke forward",
)
"""Expected checks; a run reports those that refused nothing."""


@dataclass(slots=True)
class Findings:
    """Counts of a run."""

    max_seconds: float = 1.0
    """Limit in seconds from the upload's last byte to the response."""
    statuses: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    """Refusals by check, or by code if they have no check."""
    mutations: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Seconds of each upload from its last byte to the end of the response."""
    late: list[Mutated] = field(default_factory=list)
    """Uploads over the time limit among others; they are resent alone."""
    accepted: int = 0
    violations: list[tuple[Mutated, str]] = field(default_factory=list)

    def took(self, upload: Mutated, seconds: float) -> None:
        """Record the time of a response; that of an incomplete request is ignored."""
        if upload.is_http:
            self.seconds.append(seconds)
            if seconds > self.max_seconds:
                self.late.append(upload)


def unreached(found: Findings) -> list[str]:
    """Expected checks that refused nothing."""
    return [check for check in NAMED_CHECKS if check not in found.checks]


def wrong_with(upload: Mutated, reply: Reply | None, found: Findings) -> str | None:
    """Count a response; return why the server must not give it, or None."""
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
    """Return a refusal's check without list indices, or its code if it has no check."""
    check = re.sub(r"\.\d+", ".#", re.sub(r"label \d+", "label #", str(problem.get("check", problem["code"]))))
    where, _, place = check.partition(": ")
    if check == "superpos.json: task":
        said = str(problem["expected"])
        return f"{check} ({next((word for word in _OF_THE_TASK if word in said), said[:40])})"
    if len(place) > 60:  # a key from a mutation
        return f"{where}: {place[:20]}…"
    return check


async def wrong_with_accepted(client: httpx2.AsyncClient, task: str, reply: Reply, *, fingerprint: str) -> str | None:
    """Return why an accepted upload is not a valid adapter of the backbone, or None; delete it."""
    published = reply.json()
    digest, version = published["adapter"], published["version"]
    path = f"/tasks/{task}/versions/{version}/files"
    names = (await client.get(path)).raise_for_status().json()["files"]
    files = {name: (await client.get(f"{path}/{name}")).raise_for_status().content for name in names}
    adapter = from_files(files)
    if adapter.digest != digest:
        return f"its files have the digest {adapter.digest}, it was taken as {digest}"
    if adapter.manifest.backbone.fingerprint != fingerprint:
        return f"it was trained on another backbone, {adapter.manifest.backbone.fingerprint[:80]!r}"
    item = dict.fromkeys(adapter.spec.fields, "flat")
    body = {"inputs": item, "truncate": "end", "top_k": len(adapter.spec.labels)}
    answer = await client.post(f"/classify/{task}@{digest}", json=body)
    await _remove(client, task, version)
    return _wrong_answer(answer, digest, adapter.spec)


def _wrong_answer(answer: httpx2.Response, digest: str, spec: TaskSpec) -> str | None:
    if answer.status_code != 200:
        return f"it was taken, and a classification gets {answer.status_code} {answer.text[:300]}"
    prediction = answer.json()["predictions"][0]
    scores = prediction["scores"]
    if answer.json()["adapter"] != digest or set(scores) != set(spec.label_names):
        return f"another adapter answers: {json.dumps(answer.json())[:300]}"
    if (prediction["labels"] is not None) != spec.is_multi_label:
        return f"a task of kind {spec.kind!r} has the labels {json.dumps(prediction['labels'])[:300]}"
    is_probability = all(0 <= score <= 1 for score in scores.values())
    is_sum = spec.is_multi_label or abs(sum(scores.values()) - 1) <= _SUM_TOLERANCE
    if not (is_probability and is_sum):
        return f"its scores are not a distribution: {json.dumps(scores)[:300]}"
    return None


async def _remove(client: httpx2.AsyncClient, task: str, version: int) -> None:
    aliases = (await client.get(f"/tasks/{task}")).raise_for_status().json()["aliases"]
    for alias in aliases:
        (await client.delete(f"/tasks/{task}/aliases/{alias}")).raise_for_status()
    (await client.delete(f"/tasks/{task}/versions/{version}")).raise_for_status()
