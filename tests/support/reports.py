"""Adapters with the figures that `superpos train` records on their cards."""

import dataclasses

from adapters import PromptAdapter
from adapters.profile import ValidationProfile

PROFILE = ValidationProfile(label_counts=(120, 180), confidence_counts=(0, 0, 0, 0, 0, 60, 60, 60, 60, 60), rows=300)
"""Of 300 held-out rows of a task with two labels."""


def with_report(
    adapter: PromptAdapter, *, score: float, margin: float = 0.02, validation: ValidationProfile | None = PROFILE
) -> PromptAdapter:
    """The same adapter with a score, its interval and two baselines on its card."""
    metrics = {"report_ece": 0.031, "report_macro_f1": round(score - 0.01, 6)}
    for name in ("score", "accuracy"):
        metrics |= {
            f"report_{name}": score,
            f"report_{name}_low": score - margin,
            f"report_{name}_high": score + margin,
        }
    for name, value in (("constant", 0.6), ("tfidf", 0.74)):
        metrics |= {
            f"baseline_{name}_score": value,
            f"baseline_{name}_lead": score - value,
            f"baseline_{name}_lead_low": score - value - margin,
            f"baseline_{name}_lead_high": score - value + margin,
        }
    manifest = adapter.manifest
    provenance = manifest.provenance.model_copy(
        update={"metrics": metrics, "hyperparameters": {"metric": "accuracy"}, "data": {"report_rows_sha256": "0" * 64}}
    )
    return dataclasses.replace(
        adapter, manifest=manifest.model_copy(update={"provenance": provenance, "validation": validation})
    )
