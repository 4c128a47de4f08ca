"""Train the bundled adapters again and put them into `adapters/bundled`. Needs the real rows (SUPERPOS_DATA).

About an hour on two cores. The figures of each are in its own card.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.bundle import BUNDLED

ROOT = Path(__file__).parent.parent
SUPERPOS = str(Path(sys.executable).with_name("superpos"))
RUNS = {
    "sst2": ("--limit", "8000", "--epochs", "4"),
    "ag_news": ("--limit", "4000", "--epochs", "3"),
    "trec": ("--epochs", "7"),
    "rte": ("--epochs", "4"),
}


def main() -> int:
    """Train each task by the `superpos` command."""
    if not os.environ.get("SUPERPOS_DATA"):
        sys.exit("set SUPERPOS_DATA to the folder of the real rows (see examples/tasks)")
    for task, options in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / task
            file = str(ROOT / f"examples/tasks/{task}.yaml")
            subprocess.run([SUPERPOS, "train", file, *options, "--out", str(run)], check=True)
            shutil.rmtree(BUNDLED / task, ignore_errors=True)
            shutil.copytree(run / "adapter", BUNDLED / task)
    return 0


if __name__ == "__main__":
    sys.exit(main())
