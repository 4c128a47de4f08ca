"""One training run from a task file to a run folder: rows, loop, report, adapter, card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import PromptAdapter
from adapters.files import to_files
from backbone import Backbone, Precision, check_device
from training.config.arguments import TrainArguments
from training.data.folds import Fold
from training.data.splits import Split
from training.errors import InvalidArguments
from training.loop.checkpoint import Checkpoints
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, TrainResult
from training.loop.prompt_run import TrainingJob
from training.loop.train import train_stack
from training.methods.factory import start_method
from training.runs.appraisal import ReportMetrics, appraise
from training.runs.card import model_card
from training.runs.command import train_command
from training.runs.exporting import export, known_manifest, start_and_best
from training.runs.folder import RunFolder
from training.runs.outcome import result_figures, result_values
from training.runs.provenance import environment
from training.runs.recorder import RunRecorder
from training.runs.scorer import Scorer
from training.runs.sources import read_sources
from training.runs.task_rows import RunRows, TaskRows
from training.runs.tensorboard import TensorBoard
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics
from training.scoring.predictions import predictions_table
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run came to."""

    folder: Path
    adapter: PromptAdapter | None
    """None where the method does not collapse to a prompt."""
    result: TrainResult
    untrained: Metrics
    """The prompt before training, on the report rows."""
    appraisal: ReportMetrics
    """The best prompt, on the report rows."""
    split: Split
    num_truncated: int
    """Training rows that were cut to the task's token limit."""
    rows: TokenizedRows
    """The report rows."""
    answered: NDArray[np.float32]  # [n, K]
    """The best prompt's label log-probabilities of them, before calibration."""
    fold: Fold | None = None

    @property
    def trained(self) -> Metrics:
        """The best prompt's metrics on the report rows."""
        return self.appraisal.metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Everything that a run is asked for; its folder comes to hold what it comes to."""

    task: TaskFile
    arguments: TrainArguments
    folder: RunFolder
    split: Split = "honest"
    fold: Fold | None = None
    """The one that is reported; for `kfold` alone."""
    limit: int | None = None
    """At most so many training rows."""
    rows: RunRows | None = None
    """Of the same task, split, fold, seed and limit; left out, they are read."""
    precision: Precision = "fp32"
    """Of the frozen network while it trains a prompt. What comes of that is always scored in float32."""
    check_int8: bool = True
    """On a CPU: compare with the answers in int8, which a server in int8 asks an adapter for."""
    tensorboard: bool = False
    """Write event files for TensorBoard as well."""
    on_step: Callable[[StepEvent], None] = lambda event: None
    on_evaluation: Callable[[EvalEvent], None] = lambda event: None
    on_restore: Callable[[RestoreEvent], None] = lambda event: None
    """The run goes on from a checkpoint."""

    def __post_init__(self) -> None:
        if self.arguments.method == "full" and self.precision != "fp32":
            raise InvalidArguments(f"full fine-tuning was asked for in {self.precision}, expected fp32")


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run whose rows are read and whose folder is begun: a job to train, and what its report needs."""

    options: RunOptions
    job: TrainingJob
    rows: RunRows
    recorder: RunRecorder | None
    """None where what came of the training is in the folder already."""
    sources: tuple[PromptAdapter, ...]
    """The adapters that its method started from."""


def run_training(backbone: Backbone, options: RunOptions) -> RunReport:
    """Train, report and write everything.

    Raises:
        InvalidData: a data file or row is bad
        InvalidArguments: no adapter could be made of what the run is asked for
        backbone.InvalidLabels: the backbone's tokenizer cannot tell the label words apart
        backbone.DeviceUnavailable: the device does not compute in the precision that is asked for
    """
    prepared = prepare(backbone, options)
    return finish(Scorer(backbone), prepared, train_prepared(backbone, [prepared])[0])


def train_prepared(backbone: Backbone, prepared: Sequence[Preparation]) -> list[TrainResult]:
    """Train runs that are not finished in one stack, with checkpoints in their folders; it goes on from those there.

    Args:
        backbone: in float32, whatever the precision that all the runs train in

    Raises:
        InvalidCheckpoint: one cannot be read
    """
    checkpoints = Checkpoints([preparation.options.folder.path for preparation in prepared])
    frozen = backbone.in_precision(prepared[0].options.precision) if prepared else backbone
    return train_stack(frozen, [preparation.job for preparation in prepared], checkpoints)


def prepare(backbone: Backbone, options: RunOptions) -> Preparation:
    """Read and tokenise a run's rows, begin its folder and start its method; raises as `run_training`."""
    task, arguments = options.task, options.arguments
    check_device(backbone.device, options.precision)
    trie = backbone.label_trie(task.spec.label_words)
    rows = options.rows or TaskRows(backbone, task).divided(
        split=options.split, seed=arguments.seed, limit=options.limit, fold=options.fold
    )
    sources = read_sources(backbone, arguments.sources)
    method = start_method(backbone, arguments, sources)
    # refused before it is trained, what no adapter could be made of when it is
    known_manifest(backbone, task, arguments, method, described=rows.described, sources=sources)
    described = {
        "split": options.split,
        "limit": options.limit,
        "data": rows.described,
        "backbone": asdict(backbone.identity),
        "precision": options.precision,
        "environment": environment(backbone.device),
        "command": train_command(
            arguments,
            split=options.split,
            fold=options.fold,
            limit=options.limit,
            precision=options.precision,
            backbone=backbone.identity.id,
            revision=backbone.identity.revision,
        ),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    options.folder.write_arguments(task, arguments, described=described)
    board = TensorBoard(options.folder.path, lr=arguments.lr) if options.tensorboard else None
    recorder = RunRecorder(options.folder, method, rows.train, board=board)

    def step(event: StepEvent) -> None:
        recorder.step(event)
        options.on_step(event)

    def evaluation(event: EvalEvent) -> None:
        recorder.evaluation(event)
        options.on_evaluation(event)

    def restore(event: RestoreEvent) -> None:
        recorder.restore(event)
        options.on_restore(event)

    job = TrainingJob(
        method=method,
        arguments=arguments,
        trie=trie,
        rows=rows.train,
        selection=rows.selection,
        label_words=tuple(task.spec.label_words),
        scoring=task.scoring,
        on_step=step,
        on_evaluation=evaluation,
        on_restore=restore,
    )
    return Preparation(options, job, rows, recorder, sources)


def finish(scorer: Scorer, prepared: Preparation, result: TrainResult) -> RunReport:
    """Score what training came to on the report rows, and write the adapter with its card where there can be one."""
    backbone, options, job, rows = scorer.backbone, prepared.options, prepared.job, prepared.rows
    task = options.task
    start, best = start_and_best(backbone, job, result, options.folder, sources=prepared.sources)
    untrained = scorer.untrained(start, job, rows.report)
    appraisal = appraise(backbone, best, job, report=rows.report, spec=task.spec)
    answered = appraisal.answered
    figures = result_figures(untrained, appraisal)
    known = known_manifest(
        backbone, task, job.arguments, job.method, described=rows.described, sources=prepared.sources
    )
    adapter = None
    if known is not None:
        adapter = export(
            scorer, known, result, appraisal, figures=figures, report=rows.report, check_int8=options.check_int8
        )
    options.folder.write_predictions(predictions_table(rows.report_examples, task.spec.label_names, answered))
    if prepared.recorder is not None:
        prepared.recorder.finish(backbone, result)
    if adapter is not None:
        options.folder.write_adapter(to_files(adapter, card=model_card(task, adapter)))
    options.folder.write_result(
        result_values(adapter, result, appraisal, figures=figures, num_truncated=rows.train.num_truncated)
    )
    return RunReport(
        folder=options.folder.path,
        adapter=adapter,
        result=result,
        untrained=untrained,
        appraisal=appraisal,
        split=options.split,
        num_truncated=rows.train.num_truncated,
        rows=rows.report,
        answered=answered,
        fold=options.fold,
    )
