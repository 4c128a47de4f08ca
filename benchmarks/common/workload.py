"""Workload of the serving benchmarks: adapters made from the bundled ones, and real texts for them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import pyarrow.parquet

from adapters import DEFAULT_TENANT, Label, PromptAdapter, Registry, TaskSpec
from adapters.adapter import no_prompt
from adapters.files import bundled_adapters, from_files, to_files
from adapters.readout import LearnedReadout, ReadoutKind, num_states, schema_version_of
from training.task.task_file import load_task_file

ROOT = Path(__file__).parents[2]
TASKS = ("ag_news", "rte", "sst2", "trec")
"""Bundled tasks of the workload, with a few one-piece labels. Others would make figures of different dates differ."""
NOISE = 0.01
"""Standard deviation of the noise that makes another prompt of the same task, relative to the prompt's own."""

Item = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Texts:
    """Inputs by bundled task, and their origin, which is printed with the figures."""

    items: Mapping[str, Sequence[Item]]
    source: str


def perturbed(adapter: PromptAdapter, seed: int) -> PromptAdapter:
    """Make another adapter of the same task, with another digest."""
    noise = np.random.default_rng(seed).normal(0, NOISE * float(adapter.prompt.std()), adapter.prompt.shape)
    return PromptAdapter((adapter.prompt + noise).astype(np.float32), adapter.manifest)


def with_readout(
    adapter: PromptAdapter, kind: ReadoutKind, *, num_labels: int | None = None, prompt: bool = True, seed: int = 0
) -> PromptAdapter:
    """Make an adapter of the same template with random label vectors, whose answers mean nothing.

    Args:
        adapter: gives the template, the prompt and the labels
        kind: not `words`
        num_labels: number of made-up labels; None for the adapter's own
        prompt: whether to keep the prompt
        seed: of the label vectors
    """
    task, width = adapter.spec, adapter.prompt.shape[1]
    if num_labels is not None:
        labels = tuple(Label(name=f"label-{number}", words=f"label {number}") for number in range(num_labels))
        task = TaskSpec(template=task.template, labels=labels, max_tokens=task.max_tokens)
    shape = (len(task.labels), num_states(kind) * width)
    vectors = np.random.default_rng(seed).normal(0, width**-0.5, shape).astype(np.float32)
    manifest = adapter.manifest.model_copy(
        update={"schema_version": schema_version_of(kind), "readout": kind, "task": task, "validation": None}
    )
    readout = LearnedReadout(vectors, np.zeros(len(task.labels), dtype=np.float32))
    return PromptAdapter(adapter.prompt if prompt else no_prompt(width), manifest, readout)


def with_words(adapter: PromptAdapter) -> PromptAdapter:
    """Make an adapter with the same prompt that scores the label words; one that does so is returned itself."""
    if adapter.manifest.readout == "words":
        return adapter
    changes = {"schema_version": schema_version_of("words"), "readout": "words", "validation": None}
    return PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update=changes))


def of_mixed_readout(adapter: PromptAdapter, seed: int) -> PromptAdapter:
    """Make another adapter of the same task: with `words`, `soft` or `pooled`, by the seed's remainder."""
    kinds: tuple[ReadoutKind, ...] = ("words", "soft", "pooled")
    kind, other = kinds[seed % len(kinds)], perturbed(adapter, seed)
    return other if kind == "words" else with_readout(other, kind, seed=seed)


def originals() -> dict[str, PromptAdapter]:
    """Return the bundled adapters of `TASKS`, by task, all with label words, which the peers can score too."""
    files = bundled_adapters()
    return {task: with_words(from_files(files[task])) for task in TASKS}


def mixed_adapters(count: int) -> dict[str, PromptAdapter]:
    """Make `count` adapters of all bundled tasks in turn: `sst2-0002`, …."""
    bundled = list(originals().items())
    return {
        f"{task}-{number:04d}": perturbed(adapter, number)
        for number, (task, adapter) in zip(range(count), cycle(bundled), strict=False)
    }


def original(task: str) -> str:
    """Return the bundled task that a mixed adapter was made from."""
    return task.rpartition("-")[0]


def publish(registry: Registry, task: str, adapter: PromptAdapter) -> int:
    """Publish an adapter as the task's next version and return the version."""
    return registry.publish(DEFAULT_TENANT, task, to_files(adapter), actor="benchmark").version


def texts(tasks: Mapping[str, TaskSpec], *, limit: int = 400) -> Texts:
    """Read real validation rows of each task if SUPERPOS_DATA is set, else the example tickets for all tasks."""
    if os.environ.get("SUPERPOS_DATA"):
        return Texts({task: _real_items(task, limit) for task in tasks}, "validation rows of SUPERPOS_DATA")
    lines = (ROOT / "examples/tickets/train.jsonl").read_text(encoding="utf-8").splitlines()
    tickets = [str(json.loads(line)["text"]) for line in lines]
    items = {task: _ticket_items(spec, tickets) for task, spec in tasks.items()}
    return Texts(items, "examples/tickets (set SUPERPOS_DATA for the tasks' own rows)")


def _real_items(task: str, limit: int) -> list[Item]:
    file = load_task_file(ROOT / f"examples/tasks/{task}.yaml", variables=os.environ)
    assert file.data.validation is not None
    columns = {field: file.data.columns.get(field, field) for field in file.spec.fields}
    rows = pyarrow.parquet.read_table(file.data.validation).slice(0, limit).to_pylist()
    return [{field: str(row[column]) for field, column in columns.items()} for row in rows]


def _ticket_items(spec: TaskSpec, tickets: Sequence[str]) -> list[Item]:
    """Use tickets as inputs of any task: each field takes the next ticket."""
    num_fields = len(spec.fields)
    return [
        {field: tickets[(i + k) % len(tickets)] for k, field in enumerate(spec.fields)}
        for i in range(0, len(tickets), num_fields)
    ]
