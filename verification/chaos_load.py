"""Load of the chaos check: two tenants with tasks of one name publish and classify; their answers are recorded.

Each tenant's adapters have labels of their own, so an answer shows whose adapter gave it. Callers continue with the
next server after every failure, as a gateway does.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import numpy as np

from adapters import PromptAdapter
from adapters.files import to_files
from verification.platform_callers import client_of

TASK = "shared-name"
TEXTS = (
    "a gripping film that is positive and never negative",
    "the market fell on business news of the world today",
    "which city is the capital of France ?",
)
_NOISE = 0.2
"""Relative to an adapter's prompt, so that two versions give visibly different scores."""
_TOLERANCE = 1e-3
_PAUSE_S = 0.05
"""After a failure."""
_PUBLISH_EVERY_S = 0.25


@dataclass(slots=True)
class Tenant:
    """A tenant, and the answers that it got. Its threads append."""

    name: str
    key: str
    original: PromptAdapter
    sent: set[str] = field(default_factory=set)
    """Digests of all uploads, each included before it is sent."""
    accepted: list[tuple[int, str]] = field(default_factory=list)
    """Version and digest of each upload that was answered with success."""
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    """The first answer by each digest to each text."""

    def fault_of(self, body: dict[str, object], text: str) -> str | None:
        """Return what is wrong with an answer; None if nothing is."""
        digest, predictions = str(body["adapter"]), body["predictions"]
        assert isinstance(predictions, list)
        label, score = str(predictions[0]["label"]), float(predictions[0]["score"])
        if digest not in self.sent:
            return f"{self.name} was answered by {digest}, which it never sent"
        if label not in self.original.spec.label_names:
            return f"{self.name} got the label {label!r}"
        first = self.scores.setdefault((digest, text), score)
        if abs(first - score) > _TOLERANCE:
            return f"{self.name} got the scores {first:g} and {score:g} by {digest} for one text"
        return None


@dataclass(slots=True)
class Load:
    """Outcomes of all requests so far."""

    answered: list[float] = field(default_factory=list)
    """Times of classifications answered with status 200."""
    published: list[float] = field(default_factory=list)
    """Times at which the accepted uploads began."""
    failures: Counter[str] = field(default_factory=Counter)
    """By request and by status and code, or kind of broken connection."""
    wrong: list[str] = field(default_factory=list)

    def is_steady(self, since: float) -> bool:
        """Return whether classifications and uploads that began after a moment have succeeded, ten and two."""
        return sum(at > since for at in self.answered) >= 10 and sum(at > since for at in self.published) >= 2

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time between two answers after a moment."""
        times = [since, *(at for at in list(self.answered) if at > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def published_after_s(self, since: float) -> float:
        """Return the time from a moment to the beginning of the first upload after it that was accepted."""
        return next(at for at in list(self.published) if at > since) - since


@contextmanager
def load(urls: Sequence[str], tenants: Sequence[Tenant], *, callers_each: int) -> Iterator[Load]:
    """Publish and classify for all tenants during the block; at its end all requests have finished."""
    outcome, stop = Load(), threading.Event()

    def until_stopped(tenant: Tenant, first: int, step: Callable[[httpx2.Client, int], str | None]) -> None:
        """Take a step again and again, with the next server after each failure, which the step returns."""
        clients = [client_of(url, tenant.key) for url in urls]
        server = first
        for number in itertools.count():
            if stop.is_set():
                break
            try:
                failure = step(clients[server % len(urls)], number)
            except httpx2.TransportError as exc:
                failure = type(exc).__name__
            if failure is not None:
                outcome.failures[f"{step.__name__}: {failure}"] += 1
                server += 1
                stop.wait(_PAUSE_S)
        for client in clients:
            client.close()

    def publisher_of(tenant: Tenant) -> Callable[[httpx2.Client, int], str | None]:
        seeds = itertools.count()
        waiting: list[PromptAdapter] = []

        def publish(client: httpx2.Client, _: int) -> str | None:
            """Upload an adapter, the same one until it is accepted: that is how a client repeats a publish."""
            if not waiting:
                waiting.append(_noisy(tenant.original, next(seeds)))
            tenant.sent.add(waiting[0].digest)
            parts = [("files", (name, data)) for name, data in to_files(waiting[0]).items()]
            began = time.monotonic()
            answer = client.post(f"/tasks/{TASK}/versions", files=parts, data={"alias": "production"})
            if not answer.is_success:
                return _failure(answer)
            tenant.accepted.append((int(answer.json()["version"]), waiting.pop().digest))
            outcome.published.append(began)
            stop.wait(_PUBLISH_EVERY_S)
            return None

        return publish

    def caller_of(tenant: Tenant) -> Callable[[httpx2.Client, int], str | None]:
        def classify(client: httpx2.Client, number: int) -> str | None:
            text = TEXTS[number % len(TEXTS)]
            answer = client.post(f"/classify/{TASK}", json={"inputs": text})
            if answer.status_code != 200:
                return _failure(answer)
            outcome.answered.append(time.monotonic())
            if (fault := tenant.fault_of(answer.json(), text)) is not None:
                outcome.wrong.append(fault)
            return None

        return classify

    with ThreadPoolExecutor(len(tenants) * (callers_each + 1)) as pool:
        futures = [
            pool.submit(until_stopped, tenant, first, make(tenant))
            for tenant in tenants
            for first, make in enumerate([publisher_of, *[caller_of] * callers_each])
        ]
        try:
            yield outcome
        finally:
            stop.set()
        for future in futures:
            future.result(60)


def lost(tenant: Tenant, known: dict[int, str]) -> list[str]:
    """Return what was accepted and is not there, or not under its number."""
    return [
        f"{tenant.name}: version {version} was accepted as {digest}, found {known.get(version)}"
        for version, digest in list(tenant.accepted)
        if known.get(version) != digest
    ]


def _noisy(adapter: PromptAdapter, seed: int) -> PromptAdapter:
    noise = np.random.default_rng(seed).normal(0, _NOISE * float(adapter.prompt.std()), adapter.prompt.shape)
    return PromptAdapter((adapter.prompt + noise).astype(np.float32), adapter.manifest)


def _failure(answer: httpx2.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['code']}"
    except (ValueError, KeyError):
        return str(answer.status_code)
