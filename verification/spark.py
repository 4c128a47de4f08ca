"""Run the Spark example on a local Spark, and compare its output with that of `superpos score`.

Not part of `make acceptance`, since Spark is not in the lock: `pip install pyspark`, `apt-get install
default-jre-headless`, then `python -m verification.spark`. It exits with status 1 if a label or a score differs.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from adapters.files import to_files
from adapters.registry.opening import open_registry
from benchmarks.common.report import print_result
from benchmarks.common.workload import originals

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "spark" / "score.py"
TASK = "sst2"
_WORDS = ("gripping", "flat", "tender", "overlong", "witty", "a mess", "warm", "hollow")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(rows: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 400) -> None:
    with tempfile.TemporaryDirectory(prefix="superpos-") as name:
        folder = Path(name)
        registry = str(folder / "registry.sqlite")
        open_registry(registry).publish("default", TASK, to_files(originals()[TASK]), actor="verification")
        with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "sentence"])
            for number in range(rows):
                first, second = _WORDS[number % 8], _WORDS[number // 8 % 8]
                writer.writerow([number, f'a {first} film, "{second}" in part {number}'])
        given = [TASK, str(folder / "rows.csv")]
        spark = ["--text", "sentence", "--registry", registry, "--partitions", "2"]
        subprocess.run([sys.executable, EXAMPLE, *given, str(folder / "spark"), *spark], check=True)
        superpos = [str(Path(sys.executable).with_name("superpos")), "score", *given]
        subprocess.run([*superpos, "--local", registry, "--out", str(folder / "local.csv")], check=True)
        theirs = _read(sorted((folder / "spark").glob("part-*.csv")))
        ours = _read([folder / "local.csv"])
    different = [number for number, row in ours.items() if theirs.get(number) != row]
    for number in different[:10]:
        print(f"does not hold: row {number} is {theirs.get(number)}, expected {ours[number]}", file=sys.stderr)
    print_result("spark", {"rows": len(ours), "different": len(different), "unknown": len(theirs.keys() - ours.keys())})
    sys.exit(1 if different or theirs.keys() != ours.keys() else 0)


def _read(files: list[Path]) -> dict[str, tuple[str, str, float]]:
    found = {}
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[row["id"]] = (row["sentence"], row["label"], float(row["score"]))
    return found


if __name__ == "__main__":
    app()
