"""Training: 8 prompts in one stack against one at a time, on the rows and batches of `benchmarks.training`."""

import os
import statistics

from rich.table import Table

from benchmarks.gpu.part import Measured, Setup, run_part
from benchmarks.training.engines import superpos_trainer
from cli.console import print_table

PROMPTS, QUICK_PROMPTS = 8, 2
STEPS, ROUNDS = 8, 5
QUICK_STEPS, QUICK_ROUNDS = 1, 1


def measure(setup: Setup) -> Measured:
    """Return training rows per second of one prompt and of a stack, medians of rounds in which they alternate."""
    task = "sst2" if os.environ.get("SUPERPOS_DATA") else "tickets"
    steps, rounds = (QUICK_STEPS, QUICK_ROUNDS) if setup.quick else (STEPS, ROUNDS)
    sizes = {"one": 1, "stack": QUICK_PROMPTS if setup.quick else PROMPTS}
    trainers = {
        name: superpos_trainer(setup.folder, task, slots=slots, precision=setup.precision, device=setup.device)
        for name, slots in sizes.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(rounds + 1):
        for name, train in trainers.items():
            found = train(number, steps)
            # the first round warms up
            if number:
                rates[name].append(found["rows"] / found["seconds"])
    one, stack = (statistics.median(rates[name]) for name in ("one", "stack"))
    ratio = statistics.median(b / a for a, b in zip(rates["one"], rates["stack"], strict=True))
    table = Table("prompts", "rows/s", "÷ one")
    table.add_row("1", f"{one:.0f}", "1.00")
    table.add_row(str(sizes["stack"]), f"{stack:.0f}", f"{ratio:.2f}")
    print_table(table)
    return Measured(
        figures={"one_rows_per_s": one, "stack_rows_per_s": stack, "stack_vs_one": ratio},
        detail={"task": task, "prompts": sizes["stack"], "precision": setup.precision},
    )


if __name__ == "__main__":
    run_part(measure)
