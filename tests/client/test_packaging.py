"""The client's own distribution: built, installed alone, imported without torch, and used by a typed project."""

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import hatchling.build
import pytest
from packaging.requirements import Requirement
from support.server import RunningServer

ROOT = Path(__file__).parents[2]
PROJECT = '''\
"""What a user writes, checked by `mypy --strict`."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from superpos_client import AsyncClient, Client, Prediction, SuperposError


def one(client: Client) -> str:
    found: Prediction = client.classify("sst2", "a gripping film")
    pair: Prediction = client.classify("rte", {"premise": "a", "hypothesis": "b"})
    return found.label + pair.label


def several(client: Client) -> list[float]:
    found: list[Prediction] = client.classify("sst2", ["a", {"sentence": "b"}])
    named: dict[str, Prediction] = client.classify_tasks(["a", "b"], "text")
    return [each.score for each in [*found, *named.values()]]


def many(client: Client, rows: Iterator[str]) -> Iterator[int]:
    for outcome in client.classify_many("sst2", rows, on_error="return"):
        yield -1 if isinstance(outcome, SuperposError) else outcome.version
    for prediction in client.classify_many("sst2", rows):
        yield prediction.version


async def with_async(rows: AsyncIterator[str]) -> list[str]:
    async with AsyncClient(timeout=3) as client:
        first = await client.classify("sst2", "a")
        await client.tenants.create("acme", max_tasks=3)
        done = await client.tasks.promote("sst2", 2, if_match=(await client.tasks.alias("sst2")).etag)
        return [first.label, str(done.previous), *[each.label async for each in client.classify_many("sst2", rows)]]


def wrong(client: Client) -> None:
    client.classify("sst2", 3)  # type: ignore[call-overload]
    client.tenants.create("acme", max_taks=3)  # type: ignore[call-arg]
    client.classify("sst2", "a").lable  # type: ignore[attr-defined]


asyncio.run
'''
USE = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = None  # importing either fails
from superpos_client import Client
client = Client(sys.argv[1])
print(client.classify("sentiment", "a film").task, len(list(client.classify_many("sentiment", ["a", "b"]))))
ours = [name for name in ("adapters", "backbone", "cli", "service", "training") if name in sys.modules]
print(ours)
try:
    Client.local("registry.sqlite")
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.slow
def test_it_installs_alone_and_answers_where_nothing_of_the_server_is(
    shared_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment has what the client depends on, from this environment's folder, and nothing else of it."""
    monkeypatch.chdir(ROOT / "client")
    wheel = tmp_path / hatchling.build.build_wheel(str(tmp_path))
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--python", str(python))
    run(*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", str(wheel))
    _lend_dependencies(python)
    lines = run(str(python), "-c", USE, shared_server.url).splitlines()
    assert lines[:2] == ["sentiment 2", "[]"]
    assert "needs the package 'superpos'" in lines[2]


def _lend_dependencies(python: Path) -> None:
    """Link the packages that the client needs, and those that these need, into an environment."""
    target = next((python.parents[1] / "lib").glob("python*/site-packages"))
    waiting, met = ["httpx2", "pydantic"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in met:
            continue
        met.add(name)
        found = distribution(name)
        for top in {str(path).split("/")[0] for path in found.files or () if not str(path).startswith("..")}:
            source = Path(str(found.locate_file(top)))
            if not (target / top).exists() and top != "__pycache__":
                (target / top).symlink_to(source)
        needed = [Requirement(each) for each in found.requires or ()]
        waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]


@pytest.mark.slow
def test_a_strictly_typed_project_checks(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT, encoding="utf-8")
    environment = {**os.environ, "MYPYPATH": str(ROOT / "client")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", os.devnull, "project.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_distribution_says_that_it_is_typed() -> None:
    assert (ROOT / "client" / "superpos_client" / "py.typed").exists()
    assert (ROOT / "client" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
