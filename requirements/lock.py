"""Resolve `pyproject.toml` into `lock.txt` (to run) and `dev.txt` (to develop), and the `.in` files.

Names no index and no build of torch. `torch==2.13.0` is one version with several builds (CPU, CUDA); which one a
machine gets is its own pip's choice.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMON = ["--quiet", "--strip-extras", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
LOCKED = ["--constraint", "requirements/lock.txt"]


def main() -> None:
    """Write all files."""
    constraints = ["--constraint", "requirements/constraints.txt"]
    for name, source, extra in (
        ("lock.txt", "pyproject.toml", []),
        ("dev.txt", "pyproject.toml", ["--extra", "dev", *LOCKED]),
        ("peers.txt", "requirements/peers.in", LOCKED),
        ("audit.txt", "requirements/audit.in", LOCKED),
    ):
        target = HERE / name
        command = [sys.executable, "-m", "piptools", "compile", *COMMON, *constraints, *extra]
        subprocess.run([*command, "--output-file", f"requirements/{name}", source], check=True, cwd=HERE.parent)
        target.write_text(target.read_text().replace("+cpu", ""))


if __name__ == "__main__":
    main()
