"""Export of a trained run: the prompts to score, the manifest, and the adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from pydantic import ValidationError

from adapters.adapter import BackboneRef, Manifest, PromptAdapter, Provenance
from adapters.errors import InvalidAdapter, first_error
from adapters.files import from_files, to_files
from adapters.readout import LearnedReadout, schema_version_of
from backbone import Backbone, Precision, reduced_precisions
from training.config.arguments import TrainArguments
from training.data.examples import Example
from training.errors import InvalidArguments
from training.loop.events import TrainResult
from training.loop.job import TrainingJob
from training.methods import Method, has_no_prompt
from training.methods.factory import start_method
from training.methods.prior import Source
from training.readouts.trained import exported
from training.runs.folder import RunFolder
from training.runs.provenance import hyperparameters, software
from training.runs.scorer import ReportMetrics, Scorer
from training.scoring.adapter_answers import compare, recorded, with_profile
from training.scoring.evaluation import Scored, TokenizedRows
from training.scoring.exam import exam
from training.task.task_file import TaskFile


def start_and_best(
    backbone: Backbone, job: TrainingJob, result: TrainResult, folder: RunFolder, *, sources: Sequence[Source]
) -> tuple[Scored, Scored]:
    """Return a run's start and its best; for a method without a prompt, the best is read from the folder."""
    own = has_no_prompt(job.method)
    if own is None:
        start, best = (
            torch.from_numpy(prompt.copy()).to(backbone.device)
            for prompt in (result.evaluations[0].prompt, result.prompt)
        )
        return start, best
    fresh = has_no_prompt(start_method(backbone, job.arguments, sources))
    assert fresh is not None
    own.load_state(folder.read_method())
    return fresh, own


def known_manifest(
    backbone: Backbone,
    task: TaskFile,
    arguments: TrainArguments,
    method: Method,
    *,
    precision: Precision,
    described: Mapping[str, str | int],
    sources: Sequence[Source],
) -> Manifest | None:
    """Build the part of an adapter's manifest that is known before training.

    Returns:
        None if the method does not collapse to a prompt (`choices.WITHOUT_ADAPTER`)

    Raises:
        InvalidArguments: a field is invalid in an adapter, for example the backbone's name is too long
    """
    if has_no_prompt(method) is not None:
        return None
    try:
        provenance = Provenance(
            method=arguments.method,
            seed=arguments.seed,
            sampled_token_ids=method.sampled_token_ids,
            hyperparameters=hyperparameters(arguments, precision=precision, sources=sources) | {"metric": task.metric},
            data=dict(described),
            software=software(),
        )
        manifest = Manifest(
            schema_version=schema_version_of(arguments.readout),
            readout=arguments.readout,
            task=task.spec,
            backbone=BackboneRef(**asdict(backbone.identity)),
            provenance=provenance,
        )
        prompt = np.zeros(tuple(method.prompt().shape), dtype=np.float32)
        empty = None
        if arguments.readout != "words":
            num_labels, width = len(task.spec.labels), backbone.state_width(arguments.readout)
            empty = LearnedReadout(np.zeros((num_labels, width), np.float32), np.zeros(num_labels, np.float32))
        from_files(to_files(PromptAdapter(prompt, manifest, empty)))
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise InvalidArguments(f"cannot export an adapter: {exc.title} {where} {value}: {message}") from exc
    except InvalidAdapter as exc:
        raise InvalidArguments(f"cannot export an adapter: {exc}") from exc
    return manifest


def export(
    scorer: Scorer,
    known: Manifest,
    result: TrainResult,
    measured: ReportMetrics,
    *,
    figures: Mapping[str, float],
    report: TokenizedRows,
    examples: Sequence[Example],
    baselines: Mapping[str, str | int],
    compare_precisions: bool,
) -> PromptAdapter:
    """Export the best prompt as an adapter.

    Args:
        known: the manifest from `known_manifest`
        baselines: the settings of the baselines, by entry of the provenance's `data`
        examples: the report rows, as they were read
    """
    outcome = {"best_epoch": result.best_epoch, "best_step": result.best_step, "stop": result.stop}
    provenance = Provenance.model_validate(
        dict(known.provenance)
        | {
            "hyperparameters": known.provenance.hyperparameters | outcome,
            "metrics": dict(figures),
            "data": known.provenance.data
            | measured.described()
            | dict(baselines)
            | exam(examples, known.task.label_names, measured.answers, report.labels),
        }
    )
    manifest = known.model_copy(update={"calibration": measured.fit.calibration, "provenance": provenance})
    readout = None if result.readout is None else exported(result.readout)
    adapter = with_profile(PromptAdapter(result.prompt, manifest, readout), measured.log_probs)
    for precision in reduced_precisions(scorer.backbone.device) if compare_precisions else ():
        adapter = recorded(adapter, compare(scorer.in_precision(precision), adapter, report, measured.log_probs))
    return adapter
