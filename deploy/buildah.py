"""Image builds without an engine: Debian's Buildah with a private storage, on a base made by debootstrap."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
_TOOLS = ("buildah", "debootstrap")
_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
"""Paths that Debian's own slim image excludes too."""


class BuildFailed(RuntimeError):
    """The image cannot be built, or a tool for it is missing."""


class Buildah:
    """Buildah with a private storage.

    Args:
        storage: folder of images and layers
        driver: `overlay`, or `vfs` if overlays cannot be mounted, which copies every layer
    """

    def __init__(self, storage: Path, *, driver: str) -> None:
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            raise BuildFailed(
                f"{missing[0]} is missing: apt-get install {' '.join(_TOOLS)}, or use a machine with Docker"
            )
        if os.geteuid() != 0:
            raise BuildFailed("building without a Docker engine needs root, for debootstrap and chroot")
        self._storage, self._driver = storage, driver

    def _command(self, *words: str | Path) -> list[str]:
        roots = ["--root", self._storage / "storage", "--runroot", self._storage / "run"]
        return [str(word) for word in ("buildah", *roots, "--storage-driver", self._driver, *words)]

    def run(self, *words: str | Path) -> str:
        """Return a command's output; raise `BuildFailed` if it fails."""
        done = subprocess.run(self._command(*words), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildFailed(f"buildah {words[0]}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Return whether an image is in the storage."""
        return subprocess.run(self._command("inspect", image), capture_output=True, check=False).returncode == 0

    def make_base(self, image: str) -> None:
        """Build a stand-in for Debian's slim image, under its name."""
        with self.mounted("scratch") as (container, root):
            command = ["debootstrap", "--variant=minbase", SUITE, str(root)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                raise BuildFailed(f"debootstrap: {done.stdout.splitlines()[-1]}")
            for folder in _SLIM:
                for entry in (root / folder).iterdir():
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            self.run("commit", "--format", "docker", container, image)

    def build(self, context: Path, *, tag: str, target: str, arguments: Mapping[str, str], pip: Path) -> str:
        """Build a stage of a context's Dockerfile, keeping layers; print its log and return it.

        Args:
            context: folder with the Dockerfile
            tag: name of the image
            target: stage
            arguments: build arguments
            pip: folder for this machine's pip configuration, visible to the build
        """
        words = ["bud", "--isolation", "chroot", "--pull-never", "--layers", "--format", "docker", "--tag", tag]
        words += ["--target", target]
        for source, place in pip_mounts(pip):
            words += ["--volume", f"{source}:{place}:ro"]
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        with subprocess.Popen(
            self._command(*words, context), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if re.match(r"\[\d+/\d+\] |STEP |--> ", line):
                    print(line.rstrip(), flush=True)
        if process.returncode != 0:
            raise BuildFailed("the build failed: " + "".join(lines[-15:]).strip())
        return "".join(lines)

    def size(self, image: str) -> int:
        """Return the size of an image's files in bytes, all layers."""
        found = json.loads(self.run("images", "--json", image))
        with self.mounted(image) as (_, root):
            listed = subprocess.run(["du", "-sb", root], capture_output=True, text=True, check=True).stdout
        assert found
        return int(listed.split()[0])

    def config(self, image: str) -> dict[str, object]:
        """Return an image's configuration: `User`, `Env`, `Entrypoint`, `Cmd`, `Healthcheck` and more."""
        found: dict[str, dict[str, object]] = json.loads(self.run("inspect", "--type", "image", image))["Docker"]
        return found["config"]

    @contextmanager
    def mounted(self, image: str) -> Iterator[tuple[str, Path]]:
        """Yield a container of an image and the folder of its files; remove both at the end of the block."""
        container = self.run("from", "--pull-never", image)
        try:
            yield container, Path(self.run("mount", container))
        finally:
            self.run("rm", container)


def pip_mounts(folder: Path) -> list[tuple[str, str]]:
    """Return mounts that give a build this machine's pip configuration, with the files and folders that it names.

    Files are mounted elsewhere, so that the build can write its own files there.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    values = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, flags=re.MULTILINE))
    mounts: dict[str, str] = {}

    def seen(match: re.Match[str]) -> str:
        path = Path(match[0])
        if path.is_file():
            return mounts.setdefault(str(path), f"/mnt/pip/{len(mounts)}")
        if path.is_dir():
            # links in an index lead to files outside its folder
            mounted = path.parent if path.name == "simple" else path
            mounts[str(mounted)] = str(mounted)
        return match[0]

    lines = [
        f"{name} = {re.sub(r'(?<!/)/[^/ ][^ ]*', seen, value.replace('file://', 'file://|'))}"
        for name, value in values.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pip.conf").write_text(
        "\n".join(["[global]", *lines, ""]).replace("file://|", "file://"), encoding="utf-8"
    )
    return [*mounts.items(), (str(folder / "pip.conf"), "/etc/pip.conf")]
