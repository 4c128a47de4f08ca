"""A job's state between two steps, and its file: safetensors with JSON in the header, written whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from adapters.atomic_files import atomic_write
from training.errors import InvalidCheckpoint
from training.loop.events import EvalEvent, Stop, TimingTotals
from training.loop.row_order import OrderState
from training.scoring.metrics import Metrics

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRunState:
    """All that tells a job on its way from one that has not begun."""

    stop: Stop | None
    losses: tuple[float, ...]
    """Of the steps since the last evaluation."""
    order: OrderState
    best_index: int
    elapsed_s: float
    timing: TimingTotals
    evaluations: tuple[EvalEvent, ...]
    tensors: Mapping[str, Tensor]
    """The method's parameters and the optimiser's state."""

    def write(self, path: Path) -> None:
        """Replace `path`; a process or machine that ends meanwhile leaves what was there, or nothing."""
        values = {
            "format": FORMAT,
            "stop": self.stop,
            "losses": self.losses,
            "order": asdict(self.order),
            "best_index": self.best_index,
            "elapsed_s": self.elapsed_s,
            "spent": asdict(self.timing),
            "evaluations": [_without_prompt(event) for event in self.evaluations],
        }
        prompts = {f"prompt.{i}": torch.from_numpy(event.prompt.copy()) for i, event in enumerate(self.evaluations)}
        data = safetensors.torch.save({**self.tensors, **prompts}, metadata={"state": json.dumps(values)})
        atomic_write({path: data}, synced=True)


def read_state(path: Path) -> PromptRunState:
    """The state in a file.

    Raises:
        InvalidCheckpoint: it cannot be read, or is of another version of this program
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if values["format"] != FORMAT:
            raise InvalidCheckpoint(f"{path} has format {values['format']}, expected {FORMAT}")
        evaluations = [
            EvalEvent(**{**event, "metrics": Metrics(**event["metrics"])}, prompt=tensors.pop(f"prompt.{i}").numpy())
            for i, event in enumerate(values["evaluations"])
        ]
        return PromptRunState(
            stop=values["stop"],
            losses=tuple(values["losses"]),
            order=OrderState(**values["order"]),
            best_index=values["best_index"],
            elapsed_s=values["elapsed_s"],
            timing=TimingTotals(**values["spent"]),
            evaluations=tuple(evaluations),
            tensors=tensors,
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as exc:
        raise InvalidCheckpoint(f"{path} is no checkpoint that can be gone on from: {exc}") from exc


def _without_prompt(event: EvalEvent) -> dict[str, Any]:
    return {name: value for name, value in asdict(event).items() if name != "prompt"}
