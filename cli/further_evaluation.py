"""What `superpos evaluate` can add to an adapter's figures: free generation, texts written otherwise, calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters import PromptAdapter
from backbone import Backbone
from cli.console import CommandError, err, out
from cli.ui.metrics_table import MetricsTable
from training.config.choices import Calibrate, InvalidPolicy
from training.data.examples import Example, RowFile
from training.scoring.calibration import calibration_line, fit_calibration
from training.scoring.confusion import INVALID
from training.scoring.evaluation import TokenizedRows, tokenize_examples
from training.scoring.generation import under_policy
from training.scoring.metrics import measure_answers
from training.scoring.robustness import PERTURBATIONS, perturbed
from training.scoring.validation import answers, generated, with_calibration
from training.task.scoring import Scoring


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """An adapter's answers on rows."""

    backbone: Backbone
    adapter: PromptAdapter
    scoring: Scoring
    examples: tuple[Example, ...]
    rows: TokenizedRows
    log_probs: NDArray[np.float32]  # [n, K]


def add_generated(table: MetricsTable, scored: ScoredRows, *, loss: float, policy: InvalidPolicy) -> str:
    """A row for what the same prompt generates freely; how much of it is no label comes back as a line."""
    found = generated(scored.backbone, scored.adapter, scored.rows)
    metrics = measure_answers(
        found,
        scored.rows.labels,
        num_labels=scored.log_probs.shape[1],
        loss=loss,
        scoring=scored.scoring,
        groups=scored.rows.groups,
    )
    table.add(f"free generation, invalid: {policy}", under_policy(metrics, found, policy))
    share, same = (found == INVALID).mean(), (found == scored.log_probs.argmax(axis=1)).mean()
    return f"free generation: {100 * share:.2f} % no label, {100 * same:.2f} % the served label"


def add_perturbed(table: MetricsTable, scored: ScoredRows) -> list[str]:
    """A row for each other way to write the texts; how many labels stay comes back, a line each."""
    clean, lines = scored.log_probs.argmax(axis=1), []
    for name in PERTURBATIONS:
        examples = perturbed(scored.examples, name, spec=scored.adapter.spec)
        rows = tokenize_examples(scored.backbone, scored.adapter.spec, examples)
        found = answers(scored.backbone, scored.adapter, rows)
        table.add(name, rows.measured(found, scored.scoring))
        lines.append(f"{name}: {100 * (found.argmax(axis=1) == clean).mean():.2f} % of the rows keep their label")
    return lines


def calibrated_adapter(
    adapter: PromptAdapter,
    log_probs: NDArray[np.float32],  # [n, K]
    labels: NDArray[np.int64],  # [n]
    *,
    rows: RowFile,
    calibrate: Calibrate,
    abstain_precision: float | None,
) -> PromptAdapter:
    """The adapter calibrated on rows, with what that came to printed; as it was where nothing could be fitted.

    Raises:
        CommandError: no threshold gives the precision that was asked for
    """
    fit = fit_calibration(
        log_probs,
        labels,
        spec=adapter.spec,
        calibrate=calibrate,
        abstain_precision=abstain_precision,
        before=adapter.manifest.calibration,
    )
    if abstain_precision is not None and fit.calibration.abstain_threshold is None:
        raise CommandError(fit.notes[-1])
    for note in fit.notes:
        err.print(note, style="yellow", markup=False)
    changed = with_calibration(adapter, fit, log_probs, labels, rows=rows)
    out.print(calibration_line(fit.calibration, changed.manifest.provenance.metrics), markup=False)
    return changed if fit.is_fitted or abstain_precision is not None else adapter
