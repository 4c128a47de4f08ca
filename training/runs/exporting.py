"""From a trained method to what is scored and what is exported: its start and its best, and the adapter of that."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from pydantic import ValidationError

from adapters.adapter import BackboneRef, Manifest, PromptAdapter, Provenance
from adapters.errors import InvalidAdapter, first_error
from adapters.files import from_files, to_files
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.loop.events import TrainResult
from training.loop.job import TrainingJob
from training.methods import Method, has_no_prompt
from training.methods.factory import start_method
from training.runs.folder import RunFolder
from training.runs.provenance import hyperparameters, software
from training.runs.report_metrics import ReportMetrics
from training.runs.scorer import Scorer
from training.scoring.adapter_answers import compare_int8, recorded, with_profile
from training.scoring.evaluation import Scored, TokenizedRows
from training.task.task_file import TaskFile


def start_and_best(
    backbone: Backbone, job: TrainingJob, result: TrainResult, folder: RunFolder, *, sources: Sequence[PromptAdapter]
) -> tuple[Scored, Scored]:
    """What a run began with and the best that it came to; of a method without a prompt, the folder has the latter."""
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
    described: Mapping[str, str | int],
    sources: Sequence[PromptAdapter],
) -> Manifest | None:
    """All that is known of an adapter's manifest before its prompt is trained.

    Returns:
        None where the method does not collapse to a prompt (`choices.WITHOUT_ADAPTER`)

    Raises:
        InvalidArguments: a part of it that an adapter may not have, as too long a name of the backbone
    """
    if has_no_prompt(method) is not None:
        return None
    try:
        provenance = Provenance(
            method=arguments.method,
            seed=arguments.seed,
            sampled_token_ids=method.sampled_token_ids,
            hyperparameters=hyperparameters(arguments, sources=sources) | {"metric": task.metric},
            data=dict(described),
            software=software(),
        )
        manifest = Manifest(task=task.spec, backbone=BackboneRef(**asdict(backbone.identity)), provenance=provenance)
        prompt = np.zeros((arguments.num_virtual_tokens, backbone.width), dtype=np.float32)
        from_files(to_files(PromptAdapter(prompt, manifest)))
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise InvalidArguments(f"no adapter could be made of this run: {exc.title} {where} {value}: {message}") from exc
    except InvalidAdapter as exc:
        raise InvalidArguments(f"no adapter could be made of this run: {exc}") from exc
    return manifest


def export(
    scorer: Scorer,
    known: Manifest,
    result: TrainResult,
    measured: ReportMetrics,
    *,
    figures: Mapping[str, float],
    report: TokenizedRows,
    check_int8: bool,
) -> PromptAdapter:
    """The best prompt as an adapter.

    Args:
        known: the manifest as `known_manifest` has it
    """
    came_to = {"best_epoch": result.best_epoch, "best_step": result.best_step, "stop": result.stop}
    provenance = Provenance.model_validate(
        dict(known.provenance)
        | {
            "hyperparameters": known.provenance.hyperparameters | came_to,
            "metrics": dict(figures),
            "data": known.provenance.data | measured.described(),
        }
    )
    manifest = known.model_copy(update={"calibration": measured.fit.calibration, "provenance": provenance})
    adapter = with_profile(PromptAdapter(result.prompt, manifest), measured.log_probs)
    if check_int8 and scorer.backbone.device.type == "cpu":
        adapter = recorded(adapter, compare_int8(scorer.in_precision("int8"), adapter, report, measured.log_probs))
    return adapter
