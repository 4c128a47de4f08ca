"""Process of one engine for `benchmarks.engine`: answers token ids with scores, and `null` with seconds."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common.process import answer_lines


def main(name: str, folder: str, scratch: str) -> None:
    """Serve one variant until standard input ends."""

    def make() -> Callable[[object], object]:
        from benchmarks.engine.variants import make

        variant = make(name, Path(folder), Path(scratch))
        run = None

        def answer(token_ids: object) -> object:
            nonlocal run
            if token_ids is not None:
                run = variant(token_ids)  # type: ignore[arg-type] # ours from JSON
                scores = run()
                return None if scores is None else scores.tolist()
            assert run is not None
            started = time.perf_counter()
            run()
            return time.perf_counter() - started

        return answer

    answer_lines(make)


if __name__ == "__main__":
    main(*sys.argv[1:])
