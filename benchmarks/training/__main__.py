"""Training prompts, ours against PEFT under the Hugging Face Trainer: the same rows, batch, backbone and prompt length.

- `TASK_1_vs_peft`: rows a second while one prompt trains ÷ PEFT's, median over rounds in which they take turns.
- `TASK_8_vs_peft`: the same while 8 prompts (seeds) train in one stack, rows counted over all 8: the rate at which a
  prompt gets done.
- `…_vs_peft_grouped`: against the Trainer's batches of similar lengths, which pad less and shuffle less.
- `TASK_8_vs_1`: what stacking alone is worth.
- `TASK_bf16_vs_fp32`: what `--precision bf16` is worth, ours against ours; only on CPUs that multiply in bf16.
- `TASK_bf16_vs_peft_bf16`: ours in bf16 ÷ PEFT's with frozen weights in bf16 and the Trainer's `bf16`; likewise.
- `TASK_…_memory_vs_…`: the same pairs by the memory of activations, gradients and optimiser: the most that is resident
  in the first round, less what is resident before it. Lower is better.

Both train float32 prompts of 10 vectors by AdamW on batches of 32 rows, dropout off. PEFT's loss is the full
vocabulary's, ours the label trie's: that difference is part of what is measured. Rows come from SUPERPOS_DATA where it
is set, else the example tickets are the task.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, cast

import platformdirs
import typer
from rich.progress import Progress
from rich.table import Table

from backbone import embedded
from backbone.precision import cpu_has_bf16
from benchmarks.common.process import SETTLE_S, EngineProcess, start
from benchmarks.common.report import print_result
from cli.console import err, print_table

WORKER = "benchmarks.training.engines"
TRAINERS = ("superpos_1", "superpos_8", "peft", "peft_grouped")
PAIRS = (
    ("1_vs_peft", "superpos_1", "peft"),
    ("8_vs_peft", "superpos_8", "peft"),
    ("1_vs_peft_grouped", "superpos_1", "peft_grouped"),
    ("8_vs_peft_grouped", "superpos_8", "peft_grouped"),
    ("8_vs_1", "superpos_8", "superpos_1"),
)
BF16_TRAINERS = ("superpos_bf16", "peft_bf16")
BF16_PAIRS = (
    ("bf16_vs_fp32", "superpos_bf16", "superpos_1"),
    ("bf16_vs_peft_bf16", "superpos_bf16", "peft_bf16"),
)
REAL_TASKS = ("sst2", "trec", "rte")
STEPS = 4
STACKED_STEPS = 1

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, and sst2 alone.")] = False,
    tasks: Annotated[str | None, typer.Option(help="Task files of examples/tasks by name, with commas.")] = None,
) -> None:
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))
    folder = embedded.prepare(cache_dir, err.print)
    real_tasks = REAL_TASKS[:1] if quick else REAL_TASKS
    chosen = tasks.split(",") if tasks else real_tasks if os.environ.get("SUPERPOS_DATA") else ("tickets",)
    rounds = 2 if quick else 9
    trainers, pairs = (*TRAINERS, *BF16_TRAINERS), (*PAIRS, *BF16_PAIRS)
    if not cpu_has_bf16():
        trainers, pairs = TRAINERS, PAIRS
    rates: dict[str, dict[str, list[float]]] = {}
    grown: dict[str, dict[str, float]] = {}
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("starting", total=len(chosen) * (rounds + 1) * len(trainers))
        for task in chosen:
            rates[task], grown[task] = compare(
                folder,
                task,
                trainers,
                rounds=rounds,
                done=lambda what: progress.update(bar, description=what, advance=1),
            )
    figures = {
        f"{task}_{name}": statistics.median(a / b for a, b in zip(found[ours], found[theirs], strict=True))
        for task, found in rates.items()
        for name, ours, theirs in pairs
    }
    figures |= {
        f"{task}_{name.replace('_vs_', '_memory_vs_', 1)}": found[ours] / found[theirs]
        for task, found in grown.items()
        for name, ours, theirs in pairs
    }
    _show(rates)
    print_result(
        "training",
        {name: float(f"{value:.4g}") for name, value in figures.items()},
        detail={"rows_s": rates, "grown_bytes": grown},
    )


def compare(
    folder: Path, task: str, trainers: Sequence[str], *, rounds: int, done: Callable[[str], None]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return rows/s of each trainer, a figure a round, and the bytes that its first round needs.

    The first round warms up, so its rows are not counted; in later ones the allocator keeps what the first one needed.
    """
    engines: list[EngineProcess] = []
    grown: dict[str, float] = {}
    found: dict[str, list[float]] = {name: [] for name in trainers}
    with tempfile.TemporaryDirectory(prefix="sp-") as scratch:
        try:
            for name in trainers:
                engines.append(start(WORKER, name, str(folder), task, log=Path(scratch) / f"{name}.log"))
            for number in range(rounds + 1):
                for engine in engines:
                    time.sleep(SETTLE_S)
                    steps = STACKED_STEPS if engine.name == "superpos_8" else STEPS
                    answer = cast(dict[str, float], engine.ask({"round": number, "steps": steps}))
                    if number > 0:
                        found[engine.name].append(answer["rows"] / answer["seconds"])
                    else:
                        grown[engine.name] = answer["grown_bytes"]
                    done(f"{task}: {engine.name}")
        finally:
            for engine in engines:
                engine.stop()
    return found, grown


def _show(rates: dict[str, dict[str, list[float]]]) -> None:
    """Rates as multiples of PEFT's."""
    trainers = tuple(next(iter(rates.values())))
    table = Table("task", *trainers, title="rows/s ÷ rows/s of PEFT + HF Trainer")
    for task, found in rates.items():
        peft = statistics.median(found["peft"])
        table.add_row(task, *(f"{statistics.median(found[name]) / peft:.2f}" for name in trainers))
    print_table(table)


if __name__ == "__main__":
    app()
