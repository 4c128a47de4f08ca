"""Cost of readouts: tasks without a prompt that share a text, `pooled` against `words`, many labels against two.

In process, through the server's own parts (catalog, classifier, admission, engine), and for the fan-out also over HTTP.
The two sides of a ratio alternate, pair by pair; a figure is the median of the pairs' ratios. Adapters are the
bundled TREC prompt with random label vectors: their answers mean nothing, their cost is that of trained ones.

- `fan_out20_pooled_vs_one`, `fan_out20_soft_vs_one`: seconds of one text for 20 tasks without a prompt ÷ for one of
  them. Goal: at most 1.2.
- `http_fan_out20_pooled_vs_one`: the same over HTTP, to a server process.
- `fan_out20_words_vs_one`: 20 tasks with prompts and label words ÷ one of them, for comparison.
- `pooled_vs_words`: rows/s of 32 texts with a prompt and `pooled` ÷ with the same prompt and `words`. Goal: at least
  1.1.
- `soft_vs_words`, `joint_vs_words`, `head_vs_words`: the same of `soft`, of `joint`, and of `pooled` without a prompt.
- `soft_labels77_vs_2`, `pooled_labels77_vs_2`: seconds of 32 texts with 77 labels ÷ with two labels. Goal: at most
  1.05.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from adapters import DEFAULT_TENANT, PromptAdapter, Ref
from adapters.readout import ReadoutKind
from adapters.registry.opening import open_registry
from benchmarks.common import http_load, workload
from benchmarks.common.in_process import in_process
from benchmarks.common.report import print_result
from benchmarks.common.server_process import Question, started, superpos_server, until_it_answers
from cli.console import err, print_table
from service.inference.fan_out import fan_out
from service.inference.request import InferenceRequest
from service.runtime import Runtime

NUM_HEADS = 20
NUM_ROWS = 32
TIMEOUT_S = 60.0
BASE = "trec"
"""Bundled adapter whose prompt, template and texts are used."""

Run = Callable[[int], Awaitable[None]]
"""One measured request; the argument is the number of the pair, which chooses the texts."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides that alternate."""

    figure: str
    goal: str
    run: Run
    base: Run
    is_rate: bool = False
    """Whether the figure is a ratio of rates: seconds of `base` ÷ seconds of `run`."""

    async def pair(self, number: int) -> float:
        """Run both sides once, in alternating order, and return the figure of this pair."""
        sides = {"run": self.run, "base": self.base}
        seconds: dict[str, float] = {}
        for name in sides if number % 2 else reversed(sides):
            began = time.perf_counter()
            await sides[name](number)
            seconds[name] = time.perf_counter() - began
        ratio = seconds["run"] / seconds["base"]
        return 1 / ratio if self.is_rate else ratio


def adapters() -> dict[str, PromptAdapter]:
    """Return the adapters of all comparisons, by task."""
    base = workload.originals()[BASE]
    found = {
        "words": base,
        "pooled": workload.with_readout(base, "pooled"),
        "soft": workload.with_readout(base, "soft"),
        "joint": workload.with_readout(base, "joint"),
    }
    for kind in ("pooled", "soft"):
        for count in (2, 77):
            found[f"{kind}-{count}"] = workload.with_readout(base, kind, num_labels=count)
        for number in range(NUM_HEADS):
            found[f"head-{kind}-{number:02d}"] = workload.with_readout(base, kind, prompt=False, seed=number)
    return found | {f"words-{number:02d}": workload.perturbed(base, number) for number in range(NUM_HEADS)}


def comparisons(runtime: Runtime, items: Sequence[workload.Item]) -> list[Comparison]:
    """Return what is compared in process."""

    def request(number: int, *, rows: int) -> InferenceRequest:
        texts = [items[(number * rows + row) % len(items)] for row in range(rows)]
        return InferenceRequest(DEFAULT_TENANT, texts, TIMEOUT_S, truncation="end")

    def several(tasks: Sequence[str]) -> Run:
        async def run(number: int) -> None:
            parts = await fan_out(runtime.classifier, tasks, request(number, rows=1))
            assert all(part.answer for part in parts)

        return run

    def one(task: str, *, rows: int) -> Run:
        async def run(number: int) -> None:
            await runtime.classifier.classify(Ref.parse(task), request(number, rows=rows))

        return run

    def fan_outs(figure: str, tasks: Sequence[str], goal: str) -> Comparison:
        return Comparison(figure, goal, several(tasks), one(tasks[0], rows=1))

    rates = [
        ("pooled_vs_words", "pooled", "≥ 1.1"),
        ("soft_vs_words", "soft", "–"),
        ("joint_vs_words", "joint", "–"),
        ("head_vs_words", heads("pooled")[0], "–"),
    ]
    return [
        fan_outs("fan_out20_pooled_vs_one", heads("pooled"), "≤ 1.2"),
        fan_outs("fan_out20_soft_vs_one", heads("soft"), "≤ 1.2"),
        fan_outs("fan_out20_words_vs_one", [f"words-{number:02d}" for number in range(NUM_HEADS)], "–"),
        *(
            Comparison(figure, goal, one(task, rows=NUM_ROWS), one("words", rows=NUM_ROWS), is_rate=True)
            for figure, task, goal in rates
        ),
        *(
            Comparison(
                f"{kind}_labels77_vs_2", "≤ 1.05", one(f"{kind}-77", rows=NUM_ROWS), one(f"{kind}-2", rows=NUM_ROWS)
            )
            for kind in ("soft", "pooled")
        ),
    ]


def heads(kind: ReadoutKind) -> list[str]:
    """Return the tasks without a prompt of one kind."""
    return [f"head-{kind}-{number:02d}" for number in range(NUM_HEADS)]


def over_http(url: str, client: http_load.Client, items: Sequence[workload.Item]) -> Comparison:
    """Return the fan-out over HTTP, on one connection."""

    def asking(path: str, **members: object) -> Run:
        calls = [
            http_load.call(url, path, json.dumps({"inputs": [item], "truncate": "end", **members}).encode(), rows=1)
            for item in items
        ]

        async def run(number: int) -> None:
            reply = await client.ask(calls[number % len(calls)])
            assert reply is not None
            assert reply.status == 200, reply.body

        return run

    tasks = heads("pooled")
    return Comparison(
        "http_fan_out20_pooled_vs_one", "≤ 1.2", asking("/classify", tasks=tasks), asking(f"/classify/{tasks[0]}")
    )


async def measure(compared: Sequence[Comparison], *, pairs: int, say: str) -> dict[str, list[float]]:
    """Return each figure's pairs. All comparisons take turns, so that each sees the same minutes."""
    for comparison in compared:
        for number in range(3):
            await comparison.pair(number)
    found: dict[str, list[float]] = {comparison.figure: [] for comparison in compared}
    for number in track(range(pairs), say, console=err, transient=True):
        for comparison in compared:
            found[comparison.figure].append(await comparison.pair(number))
    return found


async def run(folder: Path, *, pairs: int, only: str) -> tuple[list[Comparison], dict[str, list[float]], str]:
    """Publish the adapters and measure everything."""
    path = folder / "registry.sqlite"
    registry = open_registry(path)
    made = adapters()
    for task, adapter in made.items():
        workload.publish(registry, task, adapter)
    texts = workload.texts({BASE: made["words"].spec})
    items = texts.items[BASE]
    async with in_process(path) as runtime:
        compared = [each for each in comparisons(runtime, items) if only in each.figure]
        found = await measure(compared, pairs=pairs, say="in process")
    server, log = superpos_server(path), folder / "superpos.log"
    with started(server, log=log) as url:
        task = heads("pooled")[0]
        await until_it_answers(url, server.call(url, Question(task, (items[0],), (), 0)), log=log)
        client = http_load.Client(url)
        http = [each for each in (over_http(url, client, items),) if only in each.figure]
        found |= await measure(http, pairs=pairs, say="over HTTP")
        client.close()
    return [*compared, *http], found, texts.source


def report(compared: Sequence[Comparison], found: Mapping[str, Sequence[float]], source: str) -> None:
    """Print the figures with their quartiles."""
    table = Table("figure", "median", "quartiles", "goal", caption=f"texts: {source}")
    for comparison in compared:
        low, middle, high = statistics.quantiles(found[comparison.figure], n=4)
        table.add_row(comparison.figure, f"{middle:.2f}", f"{low:.2f} – {high:.2f}", comparison.goal)
    print_table(table)


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs, same figures.")] = False,
    only: Annotated[str, typer.Option(help="Only the figures with this text in their name.")] = "",
) -> None:
    pairs = 20 if quick else 200
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        compared, found, source = asyncio.run(run(Path(folder), pairs=pairs, only=only))
    report(compared, found, source)
    figures = {name: float(f"{statistics.median(ratios):.4g}") for name, ratios in found.items()}
    print_result("serving.readouts", figures, detail={"pairs": pairs, "texts": source})


if __name__ == "__main__":
    app()
