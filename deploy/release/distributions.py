"""Wheels and source distributions of a commit, which are the same to the byte on every build."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from deploy.release.lock import ROOT


class BuildFailed(RuntimeError):
    """A distribution cannot be built, or the commit does not exist."""


def commit_time(commit: str = "HEAD") -> int:
    """Return when a commit was made, in seconds since 1970, or `SOURCE_DATE_EPOCH` if the environment has it."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or _git("log", "-1", "--format=%ct", commit))


def uncommitted() -> list[str]:
    """Return the changed and new files of the working tree, as `git status --short` prints them."""
    return _git("status", "--short").decode().splitlines()


def export(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="data")


def build(project: Path, out: Path, *, time: int) -> None:
    """Build the source distribution of a project, and the wheel from it, with the locked build backend.

    Args:
        project: folder of a `pyproject.toml`
        out: folder of the distributions, created if missing
        time: time of all files in them, in seconds since 1970

    Raises:
        BuildFailed: the build backend refused, or is not installed
    """
    command = [sys.executable, "-I", "-m", "build", "--no-isolation", "--outdir", str(out), str(project)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(time)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{project} does not build: {(done.stdout + done.stderr).strip()}")


def _git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"git {words[0]}: {done.stderr.decode().strip()}")
    return done.stdout
