"""One engine in a process of its own, timed on request: threads that spin after their work, and libraries that bring
their own OpenMP, cannot slow the others.

Reads a line of JSON with token ids, or `null` to run the workload that it has, and answers each with a line.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(name: str, folder: str, scratch: str) -> None:
    """Serve one variant until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from benchmarks.engine_variants import make

    variant = make(name, Path(folder), Path(scratch))
    print(json.dumps({"ready": name}), file=answers, flush=True)
    run = None
    for line in sys.stdin:
        token_ids = json.loads(line)
        if token_ids is not None:
            run = variant(token_ids)
            scores = run()
            answer: object = None if scores is None else scores.tolist()
        else:
            assert run is not None
            started = time.perf_counter()
            run()
            answer = time.perf_counter() - started
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
