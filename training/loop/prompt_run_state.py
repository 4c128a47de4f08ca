"""The state of a `PromptRun` between two steps, and its file: safetensors with JSON in the header."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer

from adapters.atomic_files import atomic_write
from backbone import LabelVectors
from training.errors import InvalidCheckpoint
from training.loop.events import EvalEvent, Stop, TimingTotals
from training.loop.row_order import OrderState
from training.scoring.metrics import Metrics
from training.scoring.out_of_fold import OutOfFold

FORMAT = 2
_VECTORS, _BIAS = "readout.label_vectors", "readout.label_bias"
_FOLD_ROWS, _FOLD_LOG_PROBS = "out_of_fold.rows", "out_of_fold.log_probs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRunState:
    """Everything that a `PromptRun` needs to resume."""

    stop: Stop | None
    losses: tuple[float, ...]
    """The losses of the steps since the last evaluation."""
    order: OrderState
    best_index: int
    elapsed_s: float
    timing: TimingTotals
    evaluations: tuple[EvalEvent, ...]
    tensors: Mapping[str, Tensor]
    """The parameters of method and readout, and the optimiser's state."""
    readout: LabelVectors | None = None
    """The readout of the best evaluation."""
    out_of_fold: OutOfFold | None = None
    """The predictions of the best evaluation."""

    def write(self, path: Path) -> None:
        """Replace `path` atomically: a crash leaves the old file or none."""
        values: dict[str, object] = {
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
        values |= best_values(self.readout, self.out_of_fold)
        data = safetensors.torch.save(
            {**self.tensors, **prompts, **best_tensors(self.readout, self.out_of_fold)},
            metadata={"state": json.dumps(values)},
        )
        atomic_write({path: data}, synced=True)


def read_state(path: Path) -> PromptRunState:
    """Read the state in a file.

    Raises:
        InvalidCheckpoint: the file cannot be read, or has the format of another version
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
            readout=take_readout(tensors, values),
            out_of_fold=take_out_of_fold(tensors, values),
            tensors=tensors,
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as exc:
        raise InvalidCheckpoint(f"{path} is not a valid checkpoint: {exc}") from exc


def best_tensors(readout: LabelVectors | None, out_of_fold: OutOfFold | None) -> dict[str, Tensor]:
    """Return the tensors of a run's best evaluation, named as `take_readout` and `take_out_of_fold` expect."""
    tensors = {} if readout is None else {_VECTORS: readout.vectors, _BIAS: readout.bias}
    if out_of_fold is not None:
        tensors[_FOLD_ROWS] = torch.from_numpy(out_of_fold.rows.copy())
        tensors[_FOLD_LOG_PROBS] = torch.from_numpy(out_of_fold.log_probs.copy())
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def best_values(readout: LabelVectors | None, out_of_fold: OutOfFold | None) -> dict[str, object]:
    """Return what else they need, as values that JSON can hold."""
    values: dict[str, object] = {"readout": None}
    if readout is not None:
        values = {"readout": readout.state, "activation": readout.activation}
    return values | ({} if out_of_fold is None else {"num_folds": out_of_fold.num_folds})


def take_readout(tensors: dict[str, Tensor], values: Mapping[str, Any]) -> LabelVectors | None:
    """Remove the best readout from a file's tensors and return it (`KeyError`)."""
    if (state := values.get("readout")) is None:
        return None
    return LabelVectors(state, tensors.pop(_VECTORS), tensors.pop(_BIAS), values.get("activation", "softmax"))


def take_out_of_fold(tensors: dict[str, Tensor], values: Mapping[str, Any]) -> OutOfFold | None:
    """Remove the best evaluation's out-of-fold predictions from a file's tensors and return them (`KeyError`)."""
    if (num_folds := values.get("num_folds")) is None:
        return None
    return OutOfFold(tensors.pop(_FOLD_ROWS).numpy(), tensors.pop(_FOLD_LOG_PROBS).numpy(), num_folds)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return every parameter (`parameter.0` …) and its optimiser state (`state.0.exp_avg` …), on the CPU."""
    tensors = {f"parameter.{i}": parameter for i, parameter in enumerate(_parameters(optimizer))}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"state.{i}.{name}": value for name, value in state.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore parameters and state exactly; other tensors are ignored.

    Raises:
        KeyError: a parameter is missing
    """
    with torch.no_grad():
        for i, parameter in enumerate(_parameters(optimizer)):
            parameter.copy_(tensors[f"parameter.{i}"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "state":
            number, _, name = rest.partition(".")
            states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _without_prompt(event: EvalEvent) -> dict[str, Any]:
    return {name: value for name, value in asdict(event).items() if name != "prompt"}


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
