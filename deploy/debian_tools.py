"""Programs from Debian packages (Caddy, Prometheus, Redis), unpacked into the project's cache without installation.

Programs on PATH take precedence. `python -m deploy.debian_tools caddy promtool` prints their paths.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from filelock import FileLock

CACHE = Path(__file__).parent.parent / ".cache" / "debian"
PACKAGES = MappingProxyType(
    {
        "caddy": ("caddy",),
        "prometheus": ("prometheus",),
        "promtool": ("prometheus",),
        "redis-server": ("redis-server", "redis-tools", "liblzf1", "libjemalloc2"),
    }
)
"""Packages of each program: its own, and those whose files it needs and other programs rarely have installed."""
_TIMEOUT_S = 300


class ToolUnavailable(RuntimeError):
    """The program is not on PATH and not available from Debian's packages."""


def find(name: str, *, cache: Path = CACHE) -> Path:
    """Return the path of a program on PATH or in the cache; download it if needed.

    Args:
        name: one of `PACKAGES`
        cache: folder of unpacked packages, one subfolder per package

    Raises:
        ToolUnavailable: the program is not on PATH, and apt cannot fetch it (no apt, no network, unknown package)
    """
    packages = PACKAGES[name]
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    folder = cache / packages[0]
    program = folder / "usr" / "bin" / name
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{packages[0]}.lock"):
        if not program.exists():
            _unpack(packages, into=folder, cache=cache, wanted=name)
    return program


def library_path(program: Path) -> dict[str, str]:
    """Return the environment in which a program of several packages finds its libraries; empty for one on PATH."""
    found = sorted({str(library.parent) for library in (program.parent.parent / "lib").glob("*/lib*.so*")})
    return {"LD_LIBRARY_PATH": os.pathsep.join(found)} if found and program.is_relative_to(CACHE) else {}


def _unpack(packages: Sequence[str], *, into: Path, cache: Path, wanted: str) -> None:
    missing = [command for command in ("apt-get", "dpkg-deb") if shutil.which(command) is None]
    if missing:
        raise ToolUnavailable(
            f"{wanted} is not on PATH, and {missing[0]}, which could fetch it, is missing; install {wanted}"
        )
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        for package in packages:
            archive = _download(package, folder=folder, wanted=wanted)
            _run(["dpkg-deb", "--extract", str(archive), str(folder / "tree")], folder=folder, wanted=wanted)
        shutil.rmtree(into, ignore_errors=True)
        (folder / "tree").rename(into)


def _download(package: str, *, folder: Path, wanted: str) -> Path:
    """Download the package's archive by the system's package lists, or by private ones if they are stale."""
    # apt's own user may not write here; without root apt does not switch users
    unsandboxed = ["-o", "APT::Sandbox::User=root"]
    try:
        _run(["apt-get", *unsandboxed, "download", package], folder=folder, wanted=wanted)
    except ToolUnavailable:
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        ours = [*unsandboxed, "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={folder}"]
        _run(["apt-get", *ours, "update"], folder=folder, wanted=wanted)
        _run(["apt-get", *ours, "download", package], folder=folder, wanted=wanted)
    return next(folder.glob(f"{package}_*.deb"))


def _run(command: list[str], *, folder: Path, wanted: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as exc:
        raise ToolUnavailable(f"{wanted} cannot be fetched: {command[0]} took longer than {_TIMEOUT_S} s") from exc
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr.strip() or exc.stdout.strip() or f"status {exc.returncode}").splitlines()[-1]
        raise ToolUnavailable(f"{wanted} cannot be fetched: {command[0]}: {last}") from exc


def main(
    programs: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROGRAM...", help=f"Any of {', '.join(PACKAGES)}. (default: all)"),
    ] = None,
) -> None:
    """Print the paths of programs, fetching those that are missing."""
    unknown = [name for name in programs or () if name not in PACKAGES]
    if unknown:
        sys.exit(f"unknown program {unknown[0]!r}, expected one of {', '.join(PACKAGES)}")
    try:
        for name in programs or PACKAGES:
            print(find(name))
    except ToolUnavailable as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    typer.run(main)
