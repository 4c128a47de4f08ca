"""Training jobs: made by hand, as requests, and a trainer in a process of its own."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adapters.task import TaskSpec
from service.jobs.models import Job
from support.cli import CONSOLE_SCRIPT

SENTIMENT = TaskSpec.model_validate(
    {"template": "sentence: {text}", "labels": {"negative": "negative", "positive": "positive"}, "max_tokens": 32}
)
FINGERPRINT = "sha256:" + "0" * 64


def make_job(number: int = 1, *, tenant: str = "acme", task: str = "sst2", fingerprint: str = FINGERPRINT) -> Job:
    """A job that was submitted at the second of its number."""
    return Job(
        id=f"{number:024x}",
        tenant=tenant,
        task=task,
        actor="key:k1",
        created_at=float(number),
        spec=SENTIMENT,
        fingerprint=fingerprint,
        num_rows=3,
        max_s=60.0,
    )


def labelled(number: int) -> list[dict[str, str]]:
    """Rows that a small backbone learns, half of each label."""
    films = {"positive": "a gripping film", "negative": "flat and overlong"}
    return [
        {"input": f"{films[label]} {index}", "label": label} for index in range(number // 2) for label in sorted(films)
    ]


@dataclass
class TrainerProcess:
    """`superpos trainer` in a process of its own."""

    process: subprocess.Popen[str]
    lines: list[str]
    """What it has logged."""

    def events(self, name: str) -> list[dict[str, object]]:
        """Entries of its log with a name."""
        return [entry for line in list(self.lines) if (entry := json.loads(line))["event"] == name]


@contextmanager
def trainer_process(backbone: Path, registry: str, folder: Path, **environment: str) -> Iterator[TrainerProcess]:
    """A trainer that takes jobs; killed with the block."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("SUPERPOS_")}
    cache = {name: v for name, v in os.environ.items() if name == "SUPERPOS_CACHE_DIR"}
    options = ["--backbone", str(backbone), "--registry", registry, "--folder", str(folder), "--log-format", "json"]
    with subprocess.Popen(
        [str(CONSOLE_SCRIPT), "trainer", "--threads", "1", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **cache, "COLUMNS": "200", **environment},
    ) as process:
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=_read, args=(process.stderr, lines))
        reader.start()
        try:
            yield TrainerProcess(process, lines)
        finally:
            process.kill()
            process.wait()
            reader.join()


def _read(stderr: IO[str], lines: list[str]) -> None:
    for line in stderr:
        if line.startswith("{"):
            lines.append(line)
