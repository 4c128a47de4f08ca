"""The rows that an adapter was scored on, named by their content, and which of them it answered right."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast, get_args

from adapters import PromptAdapter
from adapters.baselines import without_baselines
from adapters.exams import MAX_PAIRED_ROWS, RIGHT, ROWS_SHA256, packed
from backbone import Backbone
from training.data.examples import Example, RowFile
from training.data.folds import Fold
from training.data.row_files import RowFiles
from training.data.splits import Split, SplitRows, divide
from training.errors import InvalidData
from training.scoring.adapter_answers import adapter_decisions, adapter_task, answers
from training.scoring.decisions import Labels, are_same
from training.scoring.evaluation import tokenize_examples
from training.task.task_file import TaskFile


def row_key(example: Example, labels: Sequence[str]) -> str:
    """Return what identifies a row: its fields and labels by name, whatever the file, the order and the template."""
    fields = sorted(example.fields.items()) or example.text
    return json.dumps([fields, example.named(labels)], ensure_ascii=True)


def exam(
    examples: Sequence[Example],
    labels: Sequence[str],
    answers: Labels,
    expected: Labels,
) -> dict[str, str]:
    """Return the entries of an adapter's provenance that name its report rows and which of them are right.

    Both are independent of the order of the rows, so that two adapters with one name of rows can be compared row by
    row. A multi-label row is right if all its labels are. Above 20,000 rows only the name is returned.
    """
    keys = [row_key(example, labels) for example in examples]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    named = {ROWS_SHA256: rows_sha256(examples, labels)}
    if len(keys) > MAX_PAIRED_ROWS:
        return named
    return named | {RIGHT: packed(are_same(answers, expected)[order])}


def rows_sha256(examples: Sequence[Example], labels: Sequence[str]) -> str:
    """Return the SHA-256 over the keys of the rows, in an order of their own."""
    digest = hashlib.sha256()
    for key in sorted(row_key(example, labels) for example in examples):
        digest.update(key.encode() + b"\n")
    return digest.hexdigest()


def division_of(adapter: PromptAdapter, files: RowFiles) -> SplitRows | None:
    """Divide a task's rows as they were when the adapter was trained, report rows included.

    Args:
        files: of a task in the adapter's labels

    Returns:
        None if the adapter does not record it, was trained on another file, or has other report rows
    """
    division, data = _divided(adapter, files), adapter.manifest.provenance.data
    if division is None or len(division.report) != data.get("report_rows"):
        return None
    found = rows_sha256(division.report, adapter.spec.label_names)
    return division if data.get(ROWS_SHA256, found) == found else None


def _divided(adapter: PromptAdapter, files: RowFiles) -> SplitRows | None:
    """Divide the training file as it was; the report rows may be of another validation file."""
    provenance = adapter.manifest.provenance
    data = provenance.data
    if data.get("split") not in get_args(Split) or data.get("train_sha256") != _sum_of_training(files):
        return None
    if ("validation_sha256" in data) != (files.validation is not None) and "fold" not in data:
        return None
    try:
        fold = Fold(number=int(data["fold"]), of=int(data["folds"])) if "fold" in data and "folds" in data else None
        limit, shots = (int(data[name]) if name in data else None for name in ("limit", "shots"))
        rows = divide(
            files, split=cast("Split", data["split"]), seed=provenance.seed or 0, fold=fold, limit=limit, shots=shots
        )
    except (InvalidData, ValueError):
        return None
    # before limits were recorded, they kept the first rows
    num_train = data.get("train_rows")
    return replace(rows, train=rows.train[:num_train]) if isinstance(num_train, int) else rows


def _sum_of_training(files: RowFiles) -> str:
    try:
        return files.train.sha256
    except InvalidData:  # the training rows are not available
        return ""


def num_trained_on(adapter: PromptAdapter, files: RowFiles, rows: RowFile) -> int:
    """Return how many rows the adapter has seen: its training rows, and those that chose its best epoch.

    A row counts by its fields and label. If the division is not known, all rows of the training file count.
    """
    labels = adapter.spec.label_names
    division = _divided(adapter, files)
    if division is None or (
        "validation_sha256" not in adapter.manifest.provenance.data and not division_of(adapter, files)
    ):
        return len(rows.examples) if rows.sha256 == adapter.manifest.provenance.data.get("train_sha256") else 0
    seen = {row_key(example, labels) for example in (*division.train, *division.selection)}
    return sum(row_key(example, labels) in seen for example in rows.examples)


def scored_on(backbone: Backbone, adapter: PromptAdapter, task: TaskFile, rows: RowFile) -> PromptAdapter:
    """Score an adapter on rows, and return it with these report metrics and rows; it is not for publishing.

    Args:
        task: in the labels of some adapter (`adapter_task`), which need not be this one
        rows: of that task

    Raises:
        InvalidAdapter: it was trained for another backbone
        InvalidData: its labels are not the task's
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    labels = task.spec.label_names
    task = adapter_task(task, adapter)
    number = {name: index for index, name in enumerate(adapter.spec.label_names)}
    examples = [replace(example, label=_renumbered(example, labels, number)) for example in rows.examples]
    tokenized = tokenize_examples(backbone, adapter.spec, examples)
    log_probs = answers(backbone, adapter, tokenized)
    decisions = adapter_decisions(adapter, log_probs)
    answered = exam(examples, adapter.spec.label_names, decisions, tokenized.labels)
    measured = tokenized.measured(log_probs, task.scoring, adapter.manifest.calibration)
    figures = {f"report_{name}": value for name, value in measured.figures().items()}
    provenance = adapter.manifest.provenance
    known = without_baselines(provenance.metrics)  # they were measured on other rows
    metrics = {name: value for name, value in known.items() if not name.startswith("report_")}
    data = {name: value for name, value in provenance.data.items() if name not in (ROWS_SHA256, RIGHT)}
    changes = {"metrics": metrics | figures, "data": data | answered}
    manifest = adapter.manifest.model_copy(update={"provenance": provenance.model_copy(update=changes)})
    return replace(adapter, manifest=manifest)


def _renumbered(example: Example, names: Sequence[str], number: Mapping[str, int]) -> int | tuple[int, ...]:
    """Return a row's labels by their numbers in another order of the names."""
    if isinstance(example.label, int):
        return number[names[example.label]]
    return tuple(sorted(number[names[label]] for label in example.label))
