"""From a trained method to what is scored and what is exported: its start and its best, and the adapter of that."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from adapters.adapter import BackboneRef, Manifest, PromptAdapter, Provenance
from backbone import Backbone
from training.methods import without_collapse
from training.runs.environment import software
from training.runs.folder import RunFolder
from training.runs.hyperparameters import hyperparameters
from training.runs.scorer import Scorer
from training.scoring.appraisal import Appraisal
from training.scoring.evaluation import Scored, TokenizedRows
from training.scoring.int8 import compare_int8, recorded
from training.scoring.validation import with_profile
from training.stack.events import TrainResult
from training.stack.slot import Slot
from training.starting import start_method
from training.task_file import TaskFile


def start_and_best(
    backbone: Backbone, slot: Slot, result: TrainResult, folder: RunFolder, *, sources: Sequence[PromptAdapter]
) -> tuple[Scored, Scored]:
    """What a run began with and the best that it came to; of a method without a prompt, the folder has the latter."""
    own = without_collapse(slot.method)
    if own is None:
        start, best = (
            torch.from_numpy(prompt.copy()).to(backbone.device)
            for prompt in (result.evaluations[0].prompt, result.prompt)
        )
        return start, best
    fresh = without_collapse(start_method(backbone, slot.arguments, sources))
    assert fresh is not None
    own.load_state(folder.read_method())
    return fresh, own


def export(
    scorer: Scorer,
    task: TaskFile,
    slot: Slot,
    result: TrainResult,
    appraisal: Appraisal,
    *,
    figures: Mapping[str, float],
    described: Mapping[str, str | int],
    report: TokenizedRows,
    sources: Sequence[PromptAdapter],
    check_int8: bool,
) -> PromptAdapter | None:
    """The best prompt as an adapter; None where the method does not collapse to one (`choices.WITHOUT_ADAPTER`)."""
    if without_collapse(slot.method) is not None:
        return None
    provenance = Provenance(
        method=slot.arguments.method,
        seed=slot.arguments.seed,
        sampled_token_ids=slot.method.sampled_token_ids,
        hyperparameters=hyperparameters(slot.arguments, result, sources=sources) | {"metric": task.metric},
        metrics=dict(figures),
        data=dict(described),
        software=software(),
    )
    manifest = Manifest(
        task=task.spec,
        backbone=BackboneRef(**asdict(scorer.backbone.identity)),
        calibration=appraisal.fit.calibration,
        provenance=provenance,
    )
    adapter = with_profile(PromptAdapter(result.prompt, manifest), appraisal.answered)
    if check_int8 and scorer.backbone.device.type == "cpu":
        adapter = recorded(adapter, compare_int8(scorer.int8, adapter, report, appraisal.answered))
    return adapter
