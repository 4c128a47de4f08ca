"""Check with schemathesis, every check on, that a server does what its OpenAPI document says.

- `python -m verification.conformance`: the long profile, against a new server
- `python -m verification.conformance --max-examples 10 --seed 1`: fewer requests, those of one seed

The tests run the same with fewer examples. `conformance.toml` holds the settings of schemathesis that differ from its
defaults. The program exits with status 1 if a check fails or an operation never succeeds.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from adapters import DEFAULT_TENANT
from adapters.files import bundled_adapters
from adapters.registry.opening import open_registry
from verification.conformance_checks import RECORD

HERE = Path(__file__).parent
NO_ANSWER_BY_CHANCE = {
    "POST /tasks/{task}/versions": "no generator makes a valid adapter; its tests are elsewhere",
    "DELETE /admin/tenants/{tenant}/keys/{key}": "a key's id is not guessed, only sometimes remembered",
    "DELETE /tasks/{task}/versions/{version}": "a generated If-Match hardly ever holds; its tests are elsewhere",
    "PATCH /admin/tenants/{tenant}/keys/{key}": "a key's id is not guessed, only sometimes remembered",
    "POST /admin/tenants/{tenant}/keys/{key}/rotate": "the same",
}
"""Operations that need not succeed, and why."""


@dataclass(frozen=True, slots=True)
class Conformance:
    """Result of a run."""

    passed: bool
    text: str
    """Output of schemathesis."""
    answers: Mapping[str, Mapping[str, int]]
    """Number of responses per operation and status."""

    @property
    def num_requests(self) -> int:
        """Number of requests sent with their operation's own method."""
        return sum(sum(statuses.values()) for statuses in self.answers.values())

    def never_succeeded(self) -> set[str]:
        """Operations without any 2xx."""
        return {name for name, statuses in self.answers.items() if not any(status[0] == "2" for status in statuses)}


def check(
    url: str, key: str, *, max_examples: int, phases: str, seed: int | None = None, timeout_s: float = 600
) -> Conformance:
    """Run schemathesis against a server that requires keys.

    Args:
        url: the server's, without a path
        key: an administrator's key
        max_examples: number per operation and phase
        phases: phases of schemathesis, separated by commas
        seed: seed of the requests; None for the same requests each time
        timeout_s: limit of the run (`subprocess.TimeoutExpired`)
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "answers.json"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "conformance.toml")),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--checks", "all"),
            *("--phases", phases, "--max-examples", str(max_examples)),
            *("--continue-on-failure", "--no-color", "--warnings", "off"),
            *(["--generation-deterministic"] if seed is None else ["--seed", str(seed)]),
        ]
        environment = {
            **os.environ,
            RECORD: str(record),
            "SCHEMATHESIS_HOOKS": "verification.conformance_checks",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        }
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        answers = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    return Conformance(done.returncode == 0, done.stdout + done.stderr, answers)


@contextmanager
def served() -> Iterator[tuple[str, str]]:
    """Start a server process with keys and two tasks, one with two versions; yield its URL and a key."""
    key = f"sp_root_{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/registry.sqlite"
        registry, bundled = open_registry(place), bundled_adapters()
        for task, files in (("sst2", "sst2"), ("sst2", "trec"), ("rte", "rte")):
            registry.publish(DEFAULT_TENANT, task, bundled[files], actor="conformance")
        environment = {
            **os.environ,
            "SUPERPOS_REQUIRE_KEYS": "true",
            "SUPERPOS_ADMIN_KEY": key,
            "SUPERPOS_REGISTRY": place,
            "SUPERPOS_DEFAULT_TASK": "sst2",
        }
        port = str(_free_port())
        command = [str(Path(sys.executable).with_name("superpos")), "serve", "--port", port, "--log-format", "json"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                _wait(f"{url}/healthz/ready")
                _keep_texts(url, key)
                yield url, key
            finally:
                process.terminate()


def _keep_texts(url: str, key: str) -> None:
    """Let the tenant keep texts, without which no correction is accepted."""
    change = urllib.request.Request(
        f"{url}/admin/tenants/{DEFAULT_TENANT}",
        data=json.dumps({"retention_days": 1}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method="PATCH",
    )
    with urllib.request.urlopen(change):
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    max_examples: Annotated[int, typer.Option(min=1, help="Examples per operation and phase.")] = 100,
    seed: Annotated[int | None, typer.Option(help="Send the requests of this seed instead of the usual ones.")] = None,
) -> None:
    with served() as (url, key):
        phases = "examples,coverage,fuzzing,stateful"
        found = check(url, key, max_examples=max_examples, phases=phases, seed=seed, timeout_s=3_600)
    print(found.text)
    print(f"{found.num_requests} requests to {len(found.answers)} operations")
    missed = found.never_succeeded() - set(NO_ANSWER_BY_CHANCE)
    if missed:
        print(f"never answered with success: {', '.join(sorted(missed))}")
    raise typer.Exit(0 if found.passed and not missed else 1)


if __name__ == "__main__":
    app()
