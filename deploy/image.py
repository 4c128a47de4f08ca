"""Builds the Dockerfile's image, runs it confined and prints its size: `python -m deploy.image`.

With a Docker engine this is `docker build`. Without one, Debian's Buildah builds the image (`deploy/buildah.py`), its
command runs confined (`deploy/confined.py`), classifies once and stops. A second build after a change of the source
shows which steps are rebuilt.
"""

import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import typer

from deploy.buildah import Buildah, BuildFailed
from deploy.confined import Confined
from deploy.platform import free_ports

ROOT = Path(__file__).parent.parent
STORAGE = ROOT / ".cache" / "image"
TAG = "superpos:local"
_CHANGED = "service/__init__.py"
_READY_WITHIN_S = 120


def base_image() -> str:
    """The Dockerfile's base image, under the name of its local stand-in."""
    found = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found is not None
    return f"localhost/{found[1]}"


def has_engine() -> bool:
    """Return whether a Docker engine responds."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def docker_build(arguments: Sequence[str]) -> None:
    """Build and run the image with the engine."""
    words = [word for argument in arguments for word in ("--build-arg", argument)]
    subprocess.run(["docker", "build", "--tag", TAG, *words, str(ROOT)], check=True)
    found = subprocess.run(["docker", "image", "inspect", TAG], check=True, capture_output=True, text=True).stdout
    print(f"size: {json.loads(found)[0]['Size'] / 1e9:.2f} GB; run it with docker compose up")


def build(buildah: Buildah, context: Path, arguments: Sequence[str]) -> str:
    """Build without an engine; print the time and the number of cached steps."""
    started = time.monotonic()
    given = dict(argument.split("=", 1) for argument in arguments)
    log = buildah.build(context, tag=TAG, target="server", arguments=given, pip=STORAGE / "pip")
    steps = re.findall(r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)\n(--> Using cache)?", log, flags=re.MULTILINE)
    anew = [step for step, cached in steps if not cached and not step.startswith("FROM ")]
    print(f"built in {time.monotonic() - started:.0f} s; {len(anew)} of {len(steps)} steps were not cached")
    return log


def check(buildah: Buildah) -> None:
    """Run the image and classify once.

    Raises:
        BuildFailed: the image does not behave as required
    """
    config = buildah.config(TAG)
    with buildah.mounted(TAG) as (_, files), tempfile.TemporaryDirectory() as place:
        confined = Confined(files, Path(place), config)
        _, who = confined.shell("id -u")
        status, refused = confined.shell("touch /opt/superpos/x")
        print(f"runs as user {who}; writing into the image: {refused}")
        _require(who == "10001" and status != 0 and "Read-only file system" in refused, "the image is not confined")
        _serve_once(confined, config)


def _serve_once(confined: Confined, config: dict[str, object]) -> None:
    key = f"sp_admin_{secrets.token_urlsafe(32)}"
    (port,) = free_ports(1)
    settings = [
        f"SUPERPOS_PORT={port}",
        "SUPERPOS_HOST=127.0.0.1",
        "SUPERPOS_REQUIRE_KEYS=true",
        f"SUPERPOS_ADMIN_KEY={key}",
    ]
    entry, words = config["Entrypoint"], config["Cmd"]
    health = config["Healthcheck"]
    assert isinstance(entry, list)
    assert isinstance(words, list)
    assert isinstance(health, dict)
    started = time.monotonic()
    server = confined.start([*entry, *words], *settings)
    try:
        while confined.run(health["Test"][1:], *settings)[0] != 0:
            if server.poll() is not None or time.monotonic() - started > _READY_WITHIN_S:
                raise BuildFailed("the server did not become healthy")
        print(f"healthy after {time.monotonic() - started:.1f} s by its own health check")
        status, answer = _classify(port, key)
        print(f"POST /classify/sst2: {status} {answer}")
        _require(
            status == 200 and json.loads(answer)["predictions"][0]["label"] == "positive",
            "the server does not classify",
        )
        _require(_classify(port, None)[0] == 401, "the server answers without a key")
        server.send_signal(signal.SIGTERM)
        _require(server.wait(60) == 0, f"the server exited with status {server.returncode}")
        print("SIGTERM: status 0")
    except BuildFailed:
        server.kill()
        print(server.communicate()[0])
        raise


def _classify(port: int, key: str | None) -> tuple[int, str]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    body = json.dumps({"inputs": "a gripping film"}).encode()
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}/classify/sst2", body, headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BuildFailed(otherwise)


def build_after_a_change(buildah: Buildah, arguments: Sequence[str]) -> None:
    """Build again, from a copy of the project with a changed module of the server.

    Raises:
        BuildFailed: the dependencies were installed again
    """
    with tempfile.TemporaryDirectory() as name:
        context = Path(name) / "context"
        skipped = shutil.ignore_patterns(".git", ".cache", ".venv*", "__pycache__", ".mypy_cache", "runs")
        shutil.copytree(ROOT, context, ignore=skipped)
        with (context / _CHANGED).open("a", encoding="utf-8") as module:
            module.write(f"# changed at {time.time()}\n")
        log = build(buildah, context, arguments)
    again = re.findall(
        r"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (RUN .*pip install .*)\n(?!--> Using cache)", log, flags=re.MULTILINE
    )
    _require(again == ["RUN pip install --no-deps --no-build-isolation --target /opt/superpos ."], f"repeated: {again}")


def main(
    build_arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Build argument, as of docker build; repeatable.")
    ] = None,
    storage_driver: Annotated[str, typer.Option(help="Storage driver of Buildah: overlay or vfs.")] = "overlay",
) -> None:
    """Build the image, check it, and build it again after a change of the source."""
    arguments = build_arg or []
    try:
        if has_engine():
            docker_build(arguments)
            return
        buildah = Buildah(STORAGE, driver=storage_driver)
        if not buildah.has(base_image()):
            print(f"creating a substitute for {base_image()} with debootstrap")
            buildah.make_base(base_image())
        build(buildah, ROOT, arguments)
        print(f"size: {buildah.size(TAG) / 1e9:.2f} GB")
        check(buildah)
        build_after_a_change(buildah, arguments)
    except BuildFailed as exc:
        sys.exit(f"image: {exc}")


if __name__ == "__main__":
    typer.run(main)
