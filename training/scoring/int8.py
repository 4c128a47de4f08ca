"""How far an adapter's answers in int8 are from those in float32, on labelled rows."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.adapter import INT8_LABEL_AGREEMENT
from backbone import Backbone
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics
from training.scoring.validation import answers
from training.task.scoring import ACCURACY, Scoring


@dataclass(frozen=True, slots=True)
class Int8Comparison:
    """An adapter in both precisions over the same rows."""

    fp32: Metrics
    int8: Metrics
    label_agreement: float
    """Share of the rows that get the same label, 0 to 1."""

    def figures(self) -> dict[str, float]:
        """What goes into the adapter's provenance; a server in int8 looks for it."""
        return {
            INT8_LABEL_AGREEMENT: round(self.label_agreement, 6),
            "int8_accuracy": round(self.int8.accuracy, 6),
        }


def compare_int8(
    int8: Backbone,
    adapter: PromptAdapter,
    rows: TokenizedRows,
    fp32: NDArray[np.float32],
    *,
    scoring: Scoring = ACCURACY,
) -> Int8Comparison:
    """Score rows by a backbone in int8, to compare with their label log-probabilities [n, K] under the float32 one."""
    answered = answers(int8, adapter, rows)
    same = fp32.argmax(1) == answered.argmax(1)
    return Int8Comparison(rows.measured(fp32, scoring), rows.measured(answered, scoring), float(np.mean(same)))


def recorded(adapter: PromptAdapter, comparison: Int8Comparison) -> PromptAdapter:
    """The adapter with the comparison in its provenance; it has a digest of its own."""
    provenance = adapter.manifest.provenance
    metrics = {**provenance.metrics, **comparison.figures()}
    manifest = adapter.manifest.model_copy(update={"provenance": provenance.model_copy(update={"metrics": metrics})})
    return replace(adapter, manifest=manifest)
