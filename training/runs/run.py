"""A training run from its plan to its folder: prepare the rows and the method, begin the folder, finish the run."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from adapters.adapter import PromptAdapter
from adapters.baselines import Baseline, BaselineName, baseline_figures
from adapters.files import to_files
from backbone import Backbone, check_device
from training.baselines.comparison import baseline_settings, baselines_of, compared
from training.config.arguments import TrainArguments
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, TrainResult
from training.loop.job import TrainingJob
from training.methods import OneShot
from training.methods.factory import start_method
from training.methods.prior import Source
from training.readouts.trained import start_readout
from training.runs.adapter_folder import read_sources
from training.runs.card import model_card
from training.runs.exporting import export, known_manifest, start_and_best
from training.runs.folder import RunFolder
from training.runs.plan import RunPlan
from training.runs.provenance import environment, train_command
from training.runs.recorder import RunRecorder
from training.runs.run_result import result_figures, result_values
from training.runs.scorer import ReportMetrics, Scorer
from training.runs.task_rows import RunRows, TaskRows
from training.runs.teacher import start_teacher
from training.runs.tensorboard import TensorBoard
from training.scoring.metrics import Metrics
from training.scoring.predictions import predictions_table


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run with its metrics."""

    plan: RunPlan
    rows: RunRows
    adapter: PromptAdapter | None
    """None where the method does not collapse to a prompt."""
    result: TrainResult
    untrained: Metrics
    """The prompt before training, on the report rows."""
    measured: ReportMetrics
    """The best prompt, on the report rows."""
    baselines: tuple[Baseline, ...]
    """On the report rows; empty if they were not measured."""
    seconds: float
    """The run's share of its stack's training, and its own scoring."""

    @property
    def trained(self) -> Metrics:
        """The best prompt's metrics on the report rows."""
        return self.measured.metrics

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.plan.folder


TrainingEvent = StepEvent | EvalEvent | RestoreEvent


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run ready to train: its rows are tokenised, its method is at its start."""

    plan: RunPlan
    folder: RunFolder
    job: TrainingJob
    rows: RunRows
    sources: tuple[Source, ...]
    """Adapters or a prior that its method starts from."""
    recorder: RunRecorder | None = None
    """Writes the curves; None until the run begins."""

    def record(self, backbone: Backbone, result: TrainResult) -> None:
        """Write what is known only at the end of training: the prompt in words, and the cost."""
        if self.recorder is not None:
            self.recorder.finish(backbone, result)


def prepare(backbone: Backbone, plan: RunPlan, folder: RunFolder, rows: TaskRows | None = None) -> Preparation:
    """Read and tokenise a run's rows and start its method; nothing is written.

    Args:
        rows: the task's, where they are shared with other runs

    Raises:
        InvalidData: a data file or row is invalid
        InvalidArguments: no adapter could be made of the run
        backbone.InvalidLabels: the backbone's tokenizer cannot tell the label words apart
        backbone.DeviceUnavailable: the device does not compute in the precision
    """
    task, arguments = plan.task, plan.arguments
    check_device(backbone.device, plan.precision)
    trie = backbone.label_trie(task.spec.label_words)
    run_rows = plan.rows or (rows or TaskRows(backbone, task)).divided(
        split=plan.split,
        seed=arguments.seed,
        limit=plan.limit,
        shots=plan.shots,
        max_selection=plan.max_selection,
        max_report=plan.max_report,
        fold=plan.fold,
    )
    sources = read_sources(backbone, arguments.sources, arguments.method)
    method = start_method(backbone, arguments, sources)
    if isinstance(method, OneShot):
        method.show(run_rows.train.token_ids, run_rows.train.labels, task.spec.label_words, seed=arguments.seed)
    # a run that no adapter could be made of is refused before it trains
    known_manifest(
        backbone, task, arguments, method, precision=plan.precision, described=run_rows.described, sources=sources
    )
    job = TrainingJob(
        method=method,
        arguments=arguments,
        trie=trie,
        readout=start_readout(backbone, arguments, task.spec, run_rows.train.labels),
        rows=run_rows.train,
        selection=run_rows.selection,
        label_words=tuple(task.spec.label_words),
        scoring=task.scoring,
        folds=run_rows.folds if _is_cross_validated(arguments) else None,
        teacher=start_teacher(backbone, arguments, method, sources, run_rows.train),
    )
    return Preparation(plan, folder, job, run_rows, sources)


def _is_cross_validated(arguments: TrainArguments) -> bool:
    """Whether few rows choose a run's regularisation out of fold.

    Only heads are fitted in seconds. The precision that an abstain threshold promises is proven on rows that the served
    model was not fitted to, so the selection rows of a head with one stay apart.
    """
    return arguments.method == "head" and arguments.abstain_precision is None


def begin(
    backbone: Backbone,
    prepared: Preparation,
    *,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    should_prune: Callable[[EvalEvent, Metrics], bool] = lambda event, best: False,
) -> Preparation:
    """Write the run's `run.json`, and connect its job to its recorder and the callbacks.

    Raises:
        InvalidArguments: the folder cannot be made
        InvalidCheckpoint: the folder holds a run that was asked for something else
    """
    plan, folder, job = prepared.plan, prepared.folder, prepared.job
    folder.write_arguments(plan.task, plan.arguments, described=_described(backbone, prepared))
    board = TensorBoard(folder.path, lr=plan.arguments.lr) if plan.tensorboard else None
    recorder = RunRecorder(folder, job.method, prepared.rows.train, board=board)

    def step(event: StepEvent) -> None:
        recorder.step(event)
        on_event(event)

    def evaluation(event: EvalEvent) -> None:
        recorder.evaluation(event)
        on_event(event)

    def restore(event: RestoreEvent) -> None:
        recorder.restore(event)
        on_event(event)

    job = replace(job, on_step=step, on_evaluation=evaluation, on_restore=restore, should_prune=should_prune)
    return replace(prepared, job=job, recorder=recorder)


def _described(backbone: Backbone, prepared: Preparation) -> dict[str, object]:
    """Describe the run for `run.json`, which also holds the task and the arguments."""
    plan, teacher = prepared.plan, prepared.job.teacher
    return {
        "split": plan.split,
        "limit": plan.limit,
        "shots": plan.shots,
        "data": prepared.rows.described,
        "backbone": asdict(backbone.identity),
        "sources": [source.digest for source in prepared.sources],
        "precision": plan.precision,
        "environment": environment(backbone.device),
        "command": train_command(
            plan.arguments,
            split=plan.split,
            fold=plan.fold,
            limit=plan.limit,
            shots=plan.shots,
            precision=plan.precision,
            backbone=backbone.identity.id,
            revision=backbone.identity.revision,
        ),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    } | ({} if teacher is None else {"teacher_weight": teacher.weight})


def finish(
    scorer: Scorer,
    run: Preparation,
    result: TrainResult,
    *,
    training_s: float = 0.0,
    on_baseline: Callable[[BaselineName], None] = lambda name: None,
) -> RunReport:
    """Score a run's best prompt on the report rows, and write the adapter with its card where there can be one.

    An interrupted run is not measured against baselines, since Ctrl-C should end the command soon.

    Args:
        training_s: what the report adds the time of scoring to
        on_baseline: called before a baseline is fitted
    """
    began_s = time.monotonic()
    backbone, plan, job, rows = scorer.backbone, run.plan, run.job, run.rows
    task = plan.task
    start, best = start_and_best(backbone, job, result, run.folder, sources=run.sources)
    untrained = scorer.untrained(start, job, rows.report)
    measured = scorer.report(
        best, result.readout or job.trie, job, rows.report, task.spec, out_of_fold=result.out_of_fold
    )
    fitted, for_baselines = [], rows.for_baselines
    if plan.baselines and result.stop != "interrupted":
        names = baselines_of(job.arguments.method, task.spec)
        fitted = scorer.baselines.answers(for_baselines, task, names=names, on_fit=on_baseline)
    baselines = compared(
        fitted,
        measured.answers,
        rows.report,
        num_labels=len(task.spec.labels),
        scoring=task.scoring,
        log_probs=measured.log_probs,
    )
    settings = baseline_settings(fitted, folds=for_baselines.folds)
    figures = result_figures(untrained, measured) | baseline_figures(baselines)
    known = known_manifest(
        backbone,
        task,
        job.arguments,
        job.method,
        precision=plan.precision,
        described=rows.described,
        sources=run.sources,
    )
    adapter = None
    if known is not None:
        adapter = export(
            scorer,
            known,
            result,
            measured,
            figures=figures,
            report=rows.report,
            examples=rows.report_examples,
            baselines=settings,
            compare_precisions=plan.compare_precisions,
        )
    run.folder.write_predictions(
        predictions_table(
            rows.report_examples,
            task.spec.label_names,
            measured.log_probs,
            decisions=measured.decisions,
            baselines={baseline.name: baseline.answers for baseline in fitted},
        )
    )
    run.record(backbone, result)
    if adapter is not None:
        card = model_card(task, adapter, labels=measured.label_figures(task.spec.label_names, rows.report))
        run.folder.write_adapter(to_files(adapter, card=card))
    run.folder.write_result(
        result_values(adapter, result, measured, figures=figures, num_truncated=rows.train.num_truncated) | settings
    )
    return RunReport(
        plan=plan,
        rows=rows,
        adapter=adapter,
        result=result,
        untrained=untrained,
        measured=measured,
        baselines=tuple(baselines),
        seconds=training_s + time.monotonic() - began_s,
    )
