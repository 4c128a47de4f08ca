"""A Parquet file as JSON Lines, in a process of its own with bounded memory: `python -m scoring.parquet_lines`."""

import json
import resource
import sys
from pathlib import Path

import pyarrow.parquet

_MEMORY_BYTES = 2 << 30
"""Address space of the process; pyarrow itself takes a third of it."""
_BATCH_ROWS = 64


def rewrite(path: Path, lines: Path, *, max_rows: int, max_bytes: int) -> None:
    """Write the first `max_rows` rows of a Parquet file as JSON Lines.

    Raises:
        ValueError: the lines take more than `max_bytes`
        OSError, pyarrow.ArrowException: the file cannot be read
        MemoryError: it takes too much memory
    """
    num_rows = num_bytes = 0
    with path.open("rb") as file, lines.open("w", encoding="utf-8") as out:
        opened = pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            for row in batch.to_pylist():
                if num_rows == max_rows:
                    return
                line = json.dumps(row, ensure_ascii=False, default=str)
                num_rows, num_bytes = num_rows + 1, num_bytes + len(line)
                if num_bytes > max_bytes:
                    raise ValueError(f"its rows take more than {max_bytes >> 20} MiB as text")
                out.write(line + "\n")


def _main() -> None:
    path, lines, max_rows, max_bytes = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        rewrite(Path(path), Path(lines), max_rows=int(max_rows), max_bytes=int(max_bytes))
    except MemoryError:
        sys.exit("it takes too much memory")
    except Exception as exc:  # noqa: BLE001 - the parent process reports it
        sys.exit(str(exc).splitlines()[0] if str(exc) else type(exc).__name__)


if __name__ == "__main__":
    _main()
