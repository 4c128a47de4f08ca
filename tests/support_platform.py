"""What tests of the whole platform build with: callers that never stop asking, and the platform's own clients."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import yaml
from support import make_adapter

from adapters.files import to_files
from backbone import Backbone
from deploy.stack import Stack

TEXT = "a gripping film that is positive and never negative"
DEPLOY = Path(__file__).parent.parent / "deploy"
BROKEN = 0
"""The status of a request without an answer."""


@dataclass
class Asking:
    """What became of the requests of callers who ask one after another."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(self.statuses.values()) - self.statuses[200]

    def more_than(self, number: int) -> bool:
        """Whether more than so many were answered."""
        return self.statuses[200] > number


@contextmanager
def callers(stack: Stack, task: str, *, count: int = 4) -> Iterator[Asking]:
    """Callers of the gateway who ask as long as the block runs; all have their answers at its end."""
    asking, stop = Asking(), threading.Event()

    def ask() -> None:
        with client_of(stack.url, stack.admin_key) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"/classify/{task}", json={"inputs": [TEXT] * 4})
                except httpx2.TransportError as exc:
                    asking.statuses[BROKEN] += 1
                    asking.refusals.append(repr(exc))
                    continue
                asking.statuses[answer.status_code] += 1
                if answer.status_code != 200:
                    asking.refusals.append(answer.text)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask) for _ in range(count)]
        try:
            yield asking
        finally:
            stop.set()
        for future in futures:
            future.result(60)


def client_of(url: str, key: str) -> httpx2.Client:
    """A client with a key."""
    return httpx2.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"})


def upload(client: httpx2.Client, task: str, backbone: Backbone, *, seed: int) -> httpx2.Response:
    """Publish an adapter."""
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(backbone, seed=seed)).items()]
    return client.post(f"/tasks/{task}/versions", files=parts)


def digest_at(stack: Stack, server: int, task: str) -> str | None:
    """The digest with which one server answers for a task, past the gateway."""
    with client_of(stack.server_urls[server], stack.admin_key) as client:
        answer = client.post(f"/classify/{task}", json={"inputs": TEXT})
    return str(answer.json()["adapter"]) if answer.status_code == 200 else None


def dashboard_expressions() -> list[str]:
    """What the dashboard asks Prometheus, its variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana/dashboards/superpos.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in asked]


def rule_expressions() -> list[str]:
    """What the rules ask."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]
