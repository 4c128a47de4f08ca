"""What tests of the drift watch build with: answers made by hand, adapters with a profile, a look at a server's."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from adapters import PromptAdapter, Resolution
from adapters.profile import CONFIDENCE_BINS, ValidationProfile, confidence_bin
from service.inference.predictions import Classification, Prediction, Stages
from support.server import RunningServer

LABELS = ("negative", "positive")


def profile_from(rows: Sequence[tuple[str, float]], label_names: Sequence[str] = LABELS) -> ValidationProfile:
    """The profile of rows: label and score of each."""
    bins = [confidence_bin(score) for _, score in rows]
    return ValidationProfile(
        label_counts=tuple(sum(label == name for label, _ in rows) for name in label_names),
        confidence_counts=tuple(bins.count(index) for index in range(CONFIDENCE_BINS)),
        rows=len(rows),
    )


def with_validation(adapter: PromptAdapter, profile: ValidationProfile) -> PromptAdapter:
    """The same adapter with another profile; its prompt is the same."""
    return dataclasses.replace(adapter, manifest=adapter.manifest.model_copy(update={"validation": profile}))


def classification(
    rows: Sequence[tuple[str, float]],
    *,
    tenant: str = "acme",
    task: str = "mood",
    version: int = 1,
    has_profile: bool = True,
    label_names: tuple[str, ...] = LABELS,
) -> Classification:
    """One request's answers: label and score of each row."""
    predictions = [
        Prediction(label, score, None, None, {}, {}, False, 3, False, False, {}, None) for label, score in rows
    ]
    resolution = Resolution(task, version, f"sha256:{'0' * 64}")
    return Classification(tenant, resolution, predictions, Stages(), label_names, has_profile, "fp32")


def drift_of(server: RunningServer, task: str) -> dict[str, Any] | None:
    """What `/tasks/{task}` says of it."""
    body: dict[str, Any] = server.client.get(f"/tasks/{task}").raise_for_status().json()
    found: dict[str, Any] | None = body["drift"]
    return found


def look(server: RunningServer) -> None:
    """Have the server look now, and not only when its minute is over."""
    drift = server.app.state.runtime.monitoring.drift
    asyncio.run_coroutine_threadsafe(drift.look(), drift._loop._task.get_loop()).result(30)
