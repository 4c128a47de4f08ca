"""Resolve `pyproject.toml` into `lock.txt` (to run) and `dev.txt` (to develop). Names no index and no build of torch.

`torch==2.13.0` is one version with several builds (CPU, CUDA); which one a machine gets is its own pip's choice.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMON = ["--quiet", "--strip-extras", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]


def main() -> None:
    """Write both files."""
    constraints = ["--constraint", "requirements/constraints.txt"]
    for name, extra in (("lock.txt", []), ("dev.txt", ["--extra", "dev", "--constraint", "requirements/lock.txt"])):
        target = HERE / name
        command = [sys.executable, "-m", "piptools", "compile", *COMMON, *constraints, *extra]
        subprocess.run(
            [*command, "--output-file", f"requirements/{name}", "pyproject.toml"], check=True, cwd=HERE.parent
        )
        target.write_text(target.read_text().replace("+cpu", ""))


if __name__ == "__main__":
    main()
