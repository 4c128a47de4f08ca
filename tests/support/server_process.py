"""What tests of a server process build with: the real command in a process of its own, one or several workers."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support.cli import CONSOLE_SCRIPT
from support.waiting import eventually


@dataclass
class ServerProcess:
    """`superpos serve` that answers."""

    process: subprocess.Popen[str]
    lines: list[str]
    """What it has logged."""

    @property
    def url(self) -> str:
        return str(next(json.loads(line)["url"] for line in list(self.lines) if '"serving"' in line))

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def entries(self) -> list[dict[str, object]]:
        """Its log, each line read as JSON."""
        return [json.loads(line) for line in list(self.lines)]


@contextmanager
def server_process(
    backbone: str | Path,
    registry: Path | str,
    *options: str,
    program: Sequence[str] = (str(CONSOLE_SCRIPT),),
    wait: bool = True,
    **environment: str,
) -> Iterator[ServerProcess]:
    """A server that has been ready once, if waited for; ended with the block."""
    command = [*program, "serve", "--port", "0", "--log-format", "json", *options]
    kept = {name: v for name, v in os.environ.items() if not name.startswith("SUPERPOS_")}
    cache = {name: v for name, v in os.environ.items() if name == "SUPERPOS_CACHE_DIR"}
    with subprocess.Popen(
        [*command, "--backbone", str(backbone), "--registry", str(registry)],
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **cache, "COLUMNS": "200", **environment},
    ) as process:
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            if wait:
                # the line is said before the application starts: the socket holds connections from then on
                eventually(
                    lambda: process.poll() is not None or any('"serving"' in line for line in list(lines)), within_s=60
                )
                assert process.poll() is None, "".join(lines)
            yield ServerProcess(process, lines)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)
            reader.join(30)
