"""`superpos score`, killed at any moment: resumed, its output is the same to the byte."""

import random
import subprocess
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
from support.cli import CONSOLE_SCRIPT
from support.scoring import text_of
from support.server import RunningServer

KILLS, ROWS = 3, 2_000


def run(url: str, source: Path, out: Path, *, kill_after_s: float | None = None) -> bool:
    """Run the command; returns whether it reached its end."""
    command = [CONSOLE_SCRIPT, "score", "sentiment", source, "--out", out, "--server", url, "--part-rows", "64"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
    assert process.returncode == 0, errors
    return True


def test_a_killed_command_loses_nothing(shared_server: RunningServer, tmp_path: Path) -> None:
    texts = [text_of(n) if n % 97 else None for n in range(ROWS)]
    rows = pyarrow.table({"id": range(ROWS), "sentence": texts})
    source = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(rows, source, row_group_size=500)
    began = time.monotonic()
    assert run(shared_server.url, source, tmp_path / "whole.parquet")
    whole_s = time.monotonic() - began
    chance, out = random.Random(17), tmp_path / "out.parquet"
    kills = sum(
        not run(shared_server.url, source, out, kill_after_s=chance.uniform(0.3, 0.9) * whole_s) for _ in range(KILLS)
    )
    if not out.exists():
        assert run(shared_server.url, source, out)
    assert kills
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    rejected = [Path(f"{each}.rejected.jsonl").read_bytes() for each in (out, tmp_path / "whole.parquet")]
    assert rejected[0] == rejected[1]
    assert rejected[0].count(b"\n") == 21
    found = pyarrow.parquet.read_table(out)
    assert found.select(["id", "sentence"]).equals(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [
            "a.parquet",
            *(f"{name}.parquet{end}" for name in ("out", "whole") for end in ("", ".manifest.json", ".rejected.jsonl")),
        ]
    )
