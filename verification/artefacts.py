"""Build the release twice, install its wheels where nothing else is, and use them.

- `python -m verification.artefacts`: the whole check, some minutes
- `python -m verification.artefacts --release dist`: of a release that exists, without building it

Both builds must have the same checksums, although time zone, umask and hash seed differ. In an environment of its own,
the wheel of `superpos` with the released requirements serves the bundled tasks, trains a task and publishes it. In
another, the wheel of the client asks that server, without torch. No process sees the checkout or its cache. The program
exits with status 1 if something does not hold.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.request import urlopen

import typer

from benchmarks.common.report import print_result
from benchmarks.common.server_process import free_port, stop, tail
from deploy.release.files import CHECKSUMS

ROOT = Path(__file__).parents[1]
_TIMEOUT_S = 1_200
_READY_WITHIN_S = 300
_MAX_CLIENT_PACKAGES = 20
_OTHER_BUILD = {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1", "LC_ALL": "C"}
_HIDDEN = ("PYTHON", "SUPERPOS_", "VIRTUAL_ENV", "XDG_", "HF_")
"""Beginnings of variables through which a process would find the checkout, its environment or a cache."""
_ASK = """
import sys
from superpos_client import Client
with Client(sys.argv[1]) as client:
    print(client.classify("sst2", "a gripping film").label, len(list(client.classify_many("sst2", ["a", "b"] * 50))))
print(sorted({"torch", "numpy", "service", "adapters"} & sys.modules.keys()))
"""


class DoesNotHold(RuntimeError):
    """A promise does not hold, or a command failed."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with a wheel, and a home folder of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        """Working and home folder of its processes."""
        return self.folder / "home"

    def program(self, name: str) -> str:
        """Return the path of a program that the wheel or its dependencies installed."""
        return str(self.folder / "venv" / "bin" / name)

    def variables(self) -> dict[str, str]:
        """Return the environment of its processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        return {**kept, "HOME": str(self.home), "PATH": f"{self.folder / 'venv' / 'bin'}:{os.defpath}"}

    def run(self, name: str, *words: str | Path) -> str:
        """Run a program of the environment and return its output."""
        return _run(self.program(name), *words, cwd=self.home, environment=self.variables())

    def packages(self) -> dict[str, str]:
        """Return the versions of the installed packages, without pip itself."""
        lines = self.run(
            "python", "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"
        ).splitlines()
        found = dict(line.split("==", 1) for line in lines if "==" in line)
        return {name: version for name, version in found.items() if name not in ("pip", "setuptools", "wheel")}


def install(wheel: Path, requirements: Path, folder: Path) -> Environment:
    """Make an environment of a wheel and what it requires, at the released versions."""
    environment = Environment(folder)
    environment.home.mkdir(parents=True)
    venv.create(folder / "venv", with_pip=True)
    # the index and its certificates are configured in the home folder of the user
    settings = {**environment.variables(), "HOME": os.environ.get("HOME", str(Path.home()))}
    words = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", requirements, wheel)
    _run(environment.program("python"), *words, cwd=folder, environment=settings)
    environment.run("python", "-m", "pip", "check")
    return environment


@contextmanager
def serving(environment: Environment) -> Iterator[str]:
    """Start `superpos serve`, and yield its address once it is ready."""
    port, log = free_port(), environment.folder / "server.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [environment.program("superpos"), "serve", "--port", str(port)],
            cwd=environment.home,
            env=environment.variables(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DoesNotHold(f"the server is not ready: {tail(log)}")
            time.sleep(0.2)
        yield url
        process.terminate()
        _require(process.wait(60) == 0, f"the server exited with status {process.returncode}: {tail(log)}")
    finally:
        stop(process)


def check_builds(place: Path) -> Path:
    """Build the release of this commit twice, compare, and return the folder of the first."""
    first, second = place / "first", place / "second"
    for folder, settings, umask in ((first, {}, 0o022), (second, _OTHER_BUILD, 0o077)):
        command = [sys.executable, "-m", "deploy.release", "--out", folder]
        print(_run(*command, cwd=ROOT, environment={**os.environ, **settings}, umask=umask), end="")
    sums = [(folder / CHECKSUMS).read_text(encoding="ascii") for folder in (first, second)]
    _require(sums[0] == sums[1], f"two builds differ:\n{sums[0]}\n{sums[1]}")
    print("two builds have the same checksums")
    return first


def check_server(environment: Environment, url: str) -> None:
    """Use the command of the installed wheel as its users do."""
    packages = "adapters, backbone, cli, scoring, service, superpos_client, training"
    origins = environment.run("python", "-c", f"import {packages}; print(*(each.__file__ for each in ({packages})))")
    _require(
        all(Path(each).is_relative_to(environment.folder) for each in origins.split()), f"not of the wheel: {origins}"
    )
    answer = environment.run("superpos", "classify", "sst2", "a gripping film", "--server", url)
    print(answer, end="")
    _require("positive" in answer, "the server does not classify")
    shutil.copytree(ROOT / "examples", environment.home / "examples")
    words = ("--method", "head", "--limit", "200", "--out", "run", "--publish", url)
    environment.run("superpos", "train", "examples/tasks/tickets.yaml", *words)
    _require(any((environment.home / "run").rglob("*.html")), "the run has no report")
    answer = environment.run("superpos", "classify", "tickets", "my parcel never arrived", "--server", url)
    print(answer, end="")


def check_client(environment: Environment, url: str) -> None:
    """Ask the server with the client alone."""
    found = environment.run("python", "-c", _ASK, url)
    _require(found.split("\n")[:2] == ["positive 100", "[]"], f"the client alone: {found}")
    packages = environment.packages()
    _require("torch" not in packages and len(packages) <= _MAX_CLIENT_PACKAGES, f"the client needs {sorted(packages)}")


def _figures(release: Path, place: Path) -> tuple[dict[str, float], dict[str, object]]:
    (requirements,) = release.glob("superpos-*-requirements.txt")
    (wheel,), (client_wheel,) = release.glob("superpos-*.whl"), release.glob("superpos_client-*.whl")
    started = time.monotonic()
    server = install(wheel, requirements, place / "server")
    installed = time.monotonic()
    client = install(client_wheel, requirements, place / "client")
    prepared = time.monotonic()
    with serving(server) as url:
        ready = time.monotonic()
        check_server(server, url)
        check_client(client, url)
    figures = {
        "wheel_kb": wheel.stat().st_size / 1e3,
        "client_wheel_kb": client_wheel.stat().st_size / 1e3,
        "install_s": installed - started,
        "first_ready_s": ready - prepared,
        "packages": float(len(server.packages())),
        "client_packages": float(len(client.packages())),
    }
    return figures, {"checksums": (release / CHECKSUMS).read_text(encoding="ascii").splitlines()}


def _is_ready(url: str) -> bool:
    with suppress(OSError), urlopen(f"{url}/healthz/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _run(*command: str | Path, cwd: Path, environment: Mapping[str, str], umask: int = -1) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=dict(environment),
        umask=umask,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise DoesNotHold(f"{' '.join(map(str, command))}: {(done.stdout + done.stderr).strip()}")
    return done.stdout


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DoesNotHold(otherwise)


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    release: Annotated[Path | None, typer.Option(help="Folder of a release; otherwise this commit's is built.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        try:
            figures, detail = _figures(release or check_builds(Path(name)), Path(name))
        except DoesNotHold as exc:
            sys.exit(f"artefacts: {exc}")
    print_result("artefacts", figures, detail=detail)


if __name__ == "__main__":
    app()
