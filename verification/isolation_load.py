"""Load of the isolation check: tenants that publish, swap and classify, with every answer checked."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.files import to_files

WORDS = ("world", "sports", "business", "science")
TEXTS = (
    "a gripping film",
    "flat and overlong",
    "the quick brown fox jumps over the lazy dog",
    "which city is the capital of France ?",
    "it rains and it is wet",
    "the market fell on business news of the world today",
)
NUM_TASKS = 4
TOLERANCE = 1e-4
CLIENTS_A_TENANT = 6
ADMIN_KEY = "sp_isolation_" + "0123456789abcdef" * 4

Scores = Mapping[str, NDArray[np.float32]]
"""Log-probabilities [K] by text."""


@dataclass
class Tenant:
    """A tenant with its unpublished and published adapters."""

    name: str
    key: str
    waiting: list[tuple[str, PromptAdapter]]
    """Tasks and adapters that are not yet published."""
    published: dict[str, dict[str, int]] = field(default_factory=dict)
    """By task, the version of each digest; an upload is included before it is sent."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and the digest of its selector (any of the task's if the ref names none)."""

    tenant: Tenant
    ref: str
    digest: str
    texts: Sequence[str]

    def __str__(self) -> str:
        return f"{self.tenant.name} {self.ref}"


@dataclass(slots=True)
class Findings:
    """Counts of the load."""

    requests: int = 0
    rows: int = 0
    fan_outs: int = 0
    adapters: set[str] = field(default_factory=set)
    foreign_refused: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    largest_difference: float = 0.0
    published: int = 0
    swaps: int = 0


async def create_tenant(client: httpx2.AsyncClient, name: str) -> str:
    """Create a tenant and return a key of it with the role publish."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    (await client.post("/admin/tenants", json={"id": name}, headers=headers)).raise_for_status()
    made = await client.post(f"/admin/tenants/{name}/keys", json={"role": "publish"}, headers=headers)
    return str(made.raise_for_status().json()["key"])


async def run(
    url: str, pool: Mapping[str, list[tuple[str, PromptAdapter]]], expected: Mapping[str, Scores], *, seconds: float
) -> Findings:
    """Put load on a server that requires keys.

    Args:
        url: the server's address
        pool: tenants' names and their adapters; the tenants are created here
        expected: by digest, the answers of each adapter alone
        seconds: duration
    """
    found = Findings()
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=httpx2.Limits(max_connections=100)) as client:
        tenants = [Tenant(name, await create_tenant(client, name), list(made)) for name, made in pool.items()]
        for tenant in tenants:
            for _ in range(NUM_TASKS):
                await _publish(client, tenant, found)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as work:
            for number, tenant in enumerate(tenants):
                work.create_task(_swap(client, tenant, found, until=until, seed=number))
                for caller in range(CLIENTS_A_TENANT):
                    others = [other for other in tenants if other is not tenant]
                    work.create_task(_ask(client, tenant, others, expected, found, until=until, seed=caller))
    return found


async def _publish(client: httpx2.AsyncClient, tenant: Tenant, found: Findings) -> None:
    task, adapter = tenant.waiting.pop(0)
    versions = tenant.published.setdefault(task, {})
    versions[adapter.digest] = 0  # a neighbour of this request may get it in a response before we do
    parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
    response = await client.post(f"/tasks/{task}/versions", files=parts, headers=_shown(tenant))
    versions[adapter.digest] = int(response.raise_for_status().json()["version"])
    found.published += 1


async def _swap(client: httpx2.AsyncClient, tenant: Tenant, found: Findings, *, until: float, seed: int) -> None:
    """Publish the remaining adapters, and move production to a random version, repeatedly."""
    draw = random.Random(seed)
    while time.monotonic() < until:
        if tenant.waiting:
            await _publish(client, tenant, found)
        task = draw.choice(sorted(tenant.published))
        version = draw.choice([number for number in tenant.published[task].values() if number])
        path = f"/tasks/{task}/aliases/{draw.choice(('production', 'canary'))}"
        (await client.put(path, json={"version": version}, headers=_shown(tenant))).raise_for_status()
        found.swaps += 1


async def _ask(
    client: httpx2.AsyncClient,
    tenant: Tenant,
    others: Sequence[Tenant],
    expected: Mapping[str, Scores],
    found: Findings,
    *,
    until: float,
    seed: int,
) -> None:
    draw = random.Random(f"{tenant.name} {seed}")
    while time.monotonic() < until:
        if draw.random() < 0.05:
            task = draw.choice(sorted(tenant.published))
            foreign = draw.choice(list(draw.choice(others).published.get(task, {})) or [f"sha256:{0:064x}"])
            response = await _classify(client, tenant, f"{task}@{foreign}", TEXTS[:1])
            found.foreign_refused += response.status_code == 404
            if response.status_code != 404:
                found.wrong.append(f"{tenant.name} got {response.status_code} for the foreign {task}@{foreign}")
            continue
        texts = draw.sample(TEXTS, draw.randint(1, 3))
        several = [_draw_ref(draw, tenant, texts) for _ in range(draw.choice((1, 1, 8)))]
        if len(several) == 1:
            response = await _classify(client, tenant, several[0].ref, texts)
        else:
            found.fan_outs += 1
            response = await _fan_out(client, tenant, [asked.ref for asked in several], texts)
        found.requests += 1
        found.statuses[response.status_code] += 1
        if response.status_code != 200:
            found.wrong.append(f"{several[0]}: {response.status_code} {response.text[:300]}")
            continue
        bodies = [response.json()] if len(several) == 1 else response.json()["results"]
        for asked, body in zip(several, bodies, strict=True):
            if "problem" in body:
                found.wrong.append(f"{asked}: {body['problem']}")
            else:
                _check(asked, body, expected, found)


def _draw_ref(draw: random.Random, tenant: Tenant, texts: Sequence[str]) -> Asked:
    task = draw.choice(sorted(tenant.published))
    digest, version = draw.choice([pair for pair in tenant.published[task].items() if pair[1]])
    ref = draw.choice((task, task, f"{task}@{version}", f"{task}@{digest}"))
    return Asked(tenant, ref, digest, texts)


def _check(asked: Asked, body: Mapping[str, Any], expected: Mapping[str, Scores], found: Findings) -> None:
    """Compare one answer with its adapter's answer alone."""
    task, _, selector = asked.ref.partition("@")
    answered = str(body["adapter"])
    if answered not in asked.tenant.published[task] or (selector and answered != asked.digest):
        found.wrong.append(f"{asked} was answered by {answered}")
        return
    found.adapters.add(answered)
    for text, prediction in zip(asked.texts, body["predictions"], strict=True):
        names = sorted(prediction["logprobs"], key=lambda name: WORDS.index(name.rpartition("-")[2]))
        if not all(name.startswith(f"{asked.tenant.name}-") for name in names):
            found.wrong.append(f"{asked} got the labels {names}")
            continue
        got = np.array([prediction["logprobs"][name] for name in names])
        difference = float(np.abs(got - expected[answered][text]).max())
        found.largest_difference = max(found.largest_difference, difference)
        found.rows += 1
        if difference > TOLERANCE:
            found.wrong.append(f"{asked} {text!r}: {answered} is {difference:.2g} off what it says alone")


async def _classify(client: httpx2.AsyncClient, tenant: Tenant, ref: str, texts: Sequence[str]) -> httpx2.Response:
    return await client.post(f"/classify/{ref}", json={"inputs": list(texts)}, headers=_shown(tenant))


async def _fan_out(
    client: httpx2.AsyncClient, tenant: Tenant, refs: Sequence[str], texts: Sequence[str]
) -> httpx2.Response:
    body = {"tasks": list(refs), "inputs": list(texts)}
    return await client.post("/classify", json=body, headers=_shown(tenant))


def _shown(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.key}"}
