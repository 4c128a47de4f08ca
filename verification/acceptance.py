"""Train on real rows, push into a running server, classify, and compare with `transformers`.

Part of `make acceptance`; needs SUPERPOS_DATA. The program starts a server process with the bundled adapters. By the
`superpos` command it trains SST-2 briefly, TREC with a `pooled` readout, and a head without a prompt, and pushes the
results. Then several clients classify every validation row of these tasks and of bundled ones, interleaved. The answers
are compared with `transformers`, which computes each row alone, its readout included. The program exits with status 1
if a promise does not hold.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import httpx2
import platformdirs
import pyarrow.parquet
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import T5ForConditionalGeneration

from adapters import PromptAdapter
from adapters.files import from_files
from backbone import Backbone, load
from cli.console import print_table
from training.task.task_file import load_task_file
from verification.reference import reference_log_probs, reference_state


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the run."""

    name: str
    """As it is served."""
    file: str
    """Its task file in `examples/tasks`."""
    training: tuple[str, ...] | None
    """Options of `superpos train`; None for a bundled adapter."""
    min_accuracy: float = 0.85


TASKS = (
    Task("sst2", "sst2", ("--limit", "4000", "--epochs", "2")),
    Task("trec-pooled", "trec", ("--readout", "pooled", "--limit", "1500", "--epochs", "2"), 0.8),
    Task("trec-head", "trec", ("--method", "head"), 0.75),
    Task("ag_news", "ag_news", None),
    Task("trec", "trec", None),
)
NUM_COMPARED = 200
"""Number of rows per task that `transformers` computes alone."""
NUM_CLIENTS = 24
MAX_DIFFERENCE = 1e-4

SUPERPOS = str(Path(sys.executable).with_name("superpos"))
ROOT = Path(__file__).parents[1]
console = Console()


Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One validation row of a task."""

    task: str
    item: Mapping[str, str]
    label: str


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main() -> None:
    if not os.environ.get("SUPERPOS_DATA"):
        console.print("set SUPERPOS_DATA to the folder of the real rows (see examples/tasks)")
        raise typer.Exit(1)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "registry.sqlite") as url:
        for task in TASKS:
            if task.training is not None:
                run = Path(folder) / task.name
                superpos("train", str(task_file(task)), *task.training, "--no-baselines", "--out", str(run))
                print_curve(task, run)
                superpos("push", str(run), task.name, "--to", url)
        rows = interleaved([read_rows(task) for task in TASKS])
        answers = classify(url, rows)
        adapters = {task.name: fetch(url, task.name) for task in TASKS}
        mixed = adapters_a_batch(url)
    raise typer.Exit(report(rows, answers, compare(rows, answers, adapters), adapters, mixed))


def superpos(*arguments: str) -> None:
    """Run the command as a user would."""
    console.print(f"$ superpos {' '.join(arguments)}", style="bold", markup=False, soft_wrap=True)
    subprocess.run([SUPERPOS, *arguments], check=True)


@contextmanager
def running_server(registry: Path) -> Iterator[str]:
    """Start a server process on a free port and yield its address."""
    command = [SUPERPOS, "serve", "--port", "0", "--registry", str(registry), "--log-format", "json"]
    command += ["--precision", "fp32"]
    log = registry.with_name("server.log")
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            yield wait_for_address(log, process)
        finally:
            process.terminate()


def wait_for_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the address in a starting server's log."""
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if '"serving"' in line:
                return str(json.loads(line)["url"])
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def task_file(task: Task) -> Path:
    """Return the path of a task's file."""
    return ROOT / f"examples/tasks/{task.file}.yaml"


def print_curve(task: Task, run: Path) -> None:
    """Print the learning curve of a run from its `metrics.jsonl`; a head has none."""
    if not (run / "metrics.jsonl").exists():
        return
    table = Table("epoch", "train loss", "selection accuracy", "selection loss", title=f"{task.name}, trained briefly")
    for line in (run / "metrics.jsonl").read_text().splitlines():
        epoch = json.loads(line)
        loss = "untrained" if epoch["train_loss"] is None else f"{epoch['train_loss']:.4f}"
        table.add_row(str(epoch["epoch"]), loss, f"{epoch['accuracy']:.4f}", f"{epoch['loss']:.4f}")
    print_table(table)


def read_rows(task: Task) -> list[Row]:
    """Return a task's validation rows with separate fields, as a caller of the server has them."""
    file = load_task_file(task_file(task), variables=os.environ)
    assert file.data.validation is not None
    columns = {field: file.data.columns.get(field, field) for field in file.spec.fields}
    return [
        Row(
            task.name,
            {field: row[column] for field, column in columns.items()},
            file.data.label_values[str(row[file.data.label])],
        )
        for row in pyarrow.parquet.read_table(file.data.validation).to_pylist()
    ]


def interleaved(rows: Sequence[Sequence[Row]]) -> list[Row]:
    """Interleave the rows of all tasks."""
    return [row for row in chain.from_iterable(zip_longest(*rows)) if row is not None]


def classify(url: str, rows: Sequence[Row]) -> list[Answer]:
    """Send every row as its own request, many at once; the server forms the batches."""
    with httpx2.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(NUM_CLIENTS) as pool:

        def ask(row: Row) -> Answer:
            response = client.post(f"/classify/{row.task}", json={"inputs": [dict(row.item)], "truncate": "end"})
            response.raise_for_status()
            answer: Answer = response.json()
            return answer

        return list(track(pool.map(ask, rows), "classifying", total=len(rows), console=console))


def fetch(url: str, task: str) -> PromptAdapter:
    """Download the adapter of a task's production version."""
    version = httpx2.get(f"{url}/tasks/{task}").json()["aliases"]["production"]
    path = f"{url}/tasks/{task}/versions/{version}/files"
    return from_files({name: httpx2.get(f"{path}/{name}").content for name in httpx2.get(path).json()["files"]})


def adapters_a_batch(url: str) -> float:
    """Return the mean number of distinct adapters in the server's batches."""
    samples = dict(line.rsplit(" ", 1) for line in httpx2.get(f"{url}/metrics").text.splitlines() if line[0] != "#")
    return float(samples["superpos_batch_adapters_sum"]) / float(samples["superpos_batch_adapters_count"])


@dataclass(frozen=True, slots=True)
class Parity:
    """Comparison of a task's served answers with the reference."""

    rows: int
    agreed: int
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Rows of one adapter, each computed alone by `transformers`."""

    backbone: Backbone
    model: T5ForConditionalGeneration
    adapter: PromptAdapter

    def log_probs(self, item: Mapping[str, str]) -> dict[str, float]:
        """Return label log-probabilities by name."""
        spec, tokenizer = self.adapter.spec, self.backbone.tokenizer
        template = spec.parsed_template
        framed = tokenizer.frame(template.literals, template.placeholders).fill(template.values(item))
        text = tokenizer.tokenize([framed], max_tokens=spec.max_tokens, truncation="end")[0]
        kind, readout = self.adapter.manifest.readout, self.adapter.readout
        with torch.inference_mode():
            prompt = torch.from_numpy(self.adapter.prompt.copy())
            if kind == "words" or readout is None:
                words = [[*pieces, self.backbone.architecture.eos_id] for pieces in tokenizer.pieces(spec.label_words)]
                scores = reference_log_probs(self.model, prompt, text.token_ids, words)
            else:
                vectors, bias = (torch.from_numpy(x.copy()) for x in (readout.label_vectors, readout.label_bias))
                scores = torch.log_softmax(
                    vectors @ reference_state(self.model, prompt, text.token_ids, kind) + bias, dim=-1
                )
        return dict(zip(spec.label_names, scores.tolist(), strict=True))


def compare(rows: Sequence[Row], answers: Sequence[Answer], adapters: Mapping[str, PromptAdapter]) -> dict[str, Parity]:
    """Compare the first rows of each task with `transformers`, which computes each alone."""
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))
    backbone = load("embedded", cache_dir=cache_dir)
    model = T5ForConditionalGeneration.from_pretrained(cache_dir / "embedded-0.2.0", dtype=torch.float32).eval()
    parity: dict[str, Parity] = {}
    for task in TASKS:
        pairs = [(row, answer) for row, answer in zip(rows, answers, strict=True) if row.task == task.name]
        alone = Alone(backbone, model, adapters[task.name])
        pairs = list(track(pairs[:NUM_COMPARED], f"{task.name} alone", console=console))
        differences = []
        agreed = 0
        for row, answer in pairs:
            expected = alone.log_probs(row.item)
            prediction = answer["predictions"][0]
            differences.append(max(abs(prediction["logprobs"][name] - value) for name, value in expected.items()))
            agreed += prediction["label"] == max(expected, key=lambda name: expected[name])
            assert answer["adapter"] == adapters[task.name].digest
        parity[task.name] = Parity(len(pairs), agreed, max(differences))
    return parity


def report(
    rows: Sequence[Row],
    answers: Sequence[Answer],
    parity: Mapping[str, Parity],
    adapters: Mapping[str, PromptAdapter],
    mixed: float,
) -> int:
    """Print the results; return 1 if a promise does not hold."""
    columns = (
        "task",
        "readout",
        "prompt",
        "version",
        "rows",
        "accuracy",
        "compared",
        "same label",
        "max |Δ log p|",
        "holds",
    )
    table = Table(*columns, title="Served over HTTP in mixed batches, against transformers alone")
    failed = False
    for task in TASKS:
        pairs = [(row, answer) for row, answer in zip(rows, answers, strict=True) if row.task == task.name]
        accuracy = sum(row.label == answer["predictions"][0]["label"] for row, answer in pairs) / len(pairs)
        adapter, seen = adapters[task.name], parity[task.name]
        holds = accuracy >= task.min_accuracy and seen.agreed == seen.rows and seen.largest_difference <= MAX_DIFFERENCE
        failed |= not holds
        table.add_row(
            task.name,
            adapter.manifest.readout,
            str(adapter.num_virtual_tokens or "none"),
            str(pairs[0][1]["version"]),
            str(len(pairs)),
            f"{accuracy:.4f}",
            str(seen.rows),
            str(seen.agreed),
            f"{seen.largest_difference:.1e}",
            "yes" if holds else "NO",
        )
    print_table(table)
    console.print(f"distinct adapters in a batch: {mixed:.2f} on average")
    console.print("accepted" if not failed else "NOT accepted", style="bold green" if not failed else "bold red")
    return int(failed)


if __name__ == "__main__":
    app()
