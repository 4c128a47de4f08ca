"""What `superpos evaluate` does: an adapter's answers on a task's rows, their figures, and what of it is recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters import PromptAdapter
from adapters.files import CARD, from_files, read_folder, to_files, write_folder
from backbone import Backbone
from cli.console import CommandError, err, out, print_table
from cli.further_evaluation import ScoredRows, add_generated, add_perturbed, calibrated_adapter
from cli.ui.metrics_table import MetricsTable
from training.config.choices import Calibrate, InvalidPolicy
from training.data.sources import locate
from training.runs.adapter_folder import adapter_folder
from training.runs.card import recalibrated_card
from training.scoring.evaluation import tokenize_examples
from training.scoring.int8 import compare_int8, recorded
from training.scoring.validation import adapter_task, answers, read_adapter_rows, with_profile
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What is asked for beyond the figures."""

    int8: bool
    generated: InvalidPolicy | None
    """Free generation as well, and what its words that are no label count as."""
    calibrate: Calibrate
    """`never`: its calibration stays as it is."""
    abstain_precision: float | None
    robustness: bool
    record: bool


def evaluate_adapter(
    folder: Path,
    task: TaskFile,
    load: Callable[[], Backbone],
    *,
    rows: Literal["validation", "train"],
    further: EvaluationOptions,
) -> None:
    """Score the adapter of a folder, print its figures, and write into it what is to be recorded.

    Raises:
        InvalidAdapter: the folder holds none, or one of another backbone
        InvalidData: a bad file of rows, or labels that are not the adapter's
        CommandError: no such rows, or no threshold gives the precision that was asked for
    """
    paths = _row_files(task, rows)
    folder = adapter_folder(folder)
    files = read_folder(folder)
    adapter = from_files(files)
    task = adapter_task(task, adapter)
    backbone = load()
    table = MetricsTable(f"{task.name}: {paths[0].name}", task.scoring)
    with err.status(f"scoring the rows of {paths[0]}"):
        read = read_adapter_rows(backbone, adapter, task, *paths)
        tokenized = tokenize_examples(backbone, adapter.spec, read.examples)
        scored = ScoredRows(
            backbone, adapter, task.scoring, read.examples, tokenized, log_probs=answers(backbone, adapter, tokenized)
        )
        adapter, told = _add_figures(table, scored, further)
    print_table(table.finished())
    for line in told:
        out.print(line, markup=False)
    if further.calibrate != "never":
        adapter = calibrated_adapter(
            adapter,
            scored.log_probs,
            tokenized.labels,
            rows=read,
            calibrate=further.calibrate,
            abstain_precision=further.abstain_precision,
        )
    if further.record:
        adapter = with_profile(adapter, scored.log_probs)
        card = recalibrated_card(files.get(CARD, b"").decode(), adapter)
        write_folder(folder, to_files(adapter, card=card))
        out.print(f"{folder} {adapter.digest}", markup=False)


def _row_files(task: TaskFile, rows: Literal["validation", "train"]) -> tuple[Path, ...]:
    sources = locate(task.data)
    paths = sources.train if rows == "train" else sources.validation
    if not paths:
        raise CommandError(f"task {task.name!r} names no validation file; evaluate on --rows train")
    return paths


def _add_figures(
    table: MetricsTable, scored: ScoredRows, further: EvaluationOptions
) -> tuple[PromptAdapter, list[str]]:
    """Rows for all that is asked for; the adapter with what int8 came to, and lines to tell."""
    adapter, told = scored.adapter, []
    measured = scored.rows.measured(scored.log_probs, scored.scoring)
    table.add(adapter.digest[:19], measured, scored.rows.intervals(scored.log_probs, scored.scoring))
    if further.int8:
        int8 = scored.backbone.in_precision("int8")
        found = compare_int8(int8, adapter, scored.rows, scored.log_probs, scoring=scored.scoring)
        table.add("the same in int8", found.int8)
        told.append(f"{100 * found.label_agreement:.2f} % of the rows get the same label in int8")
        adapter = recorded(adapter, found)
    if further.generated is not None:
        told.append(add_generated(table, scored, loss=measured.loss, policy=further.generated))
    if further.robustness:
        told += add_perturbed(table, scored)
    return adapter, told
