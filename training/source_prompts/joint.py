"""`train_joint`: parameters that several source tasks share, trained on rows of all of them.

A stack (`training.loop.train`) trains prompts that share nothing. Here one optimiser trains a model that has a prompt
for every source; each step takes rows of some of them, and the gradient is the mean over these sources. What a step
draws depends on the seed and its number only, so that a run that resumes draws the same.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.atomic_files import atomic_write
from backbone import Backbone, Precision
from training.config.arguments import TrainArguments
from training.config.choices import LossName
from training.errors import InvalidArguments, InvalidCheckpoint, TrainingError
from training.loop.batch import PromptBatch
from training.loop.distillation import Teacher
from training.loop.job import LabelLoss, TrainingJob, label_losses
from training.loop.prompt_run_state import load_optimizer_tensors, optimizer_tensors
from training.loop.train import backpropagate
from training.methods.prior import Prior, PriorKind
from training.methods.protocol import ParameterGroup, take_over
from training.scoring.evaluation import TokenizedRows

CHECKPOINT = "joint.safetensors"
EVERY_S = 30.0
"""Interval between two checkpoints."""


class JointModel(Protocol):
    """Parameters with a prompt for every source."""

    def prompt(self, task: int) -> Tensor:
        """Return the prompt of a source, [P, H], differentiable."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters, always in the same order."""
        ...


class PriorModel(JointModel, Protocol):
    """Parameters that leave a prior."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the prior."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class JointSource:
    """A source that the model has a prompt for."""

    name: str
    rows: TokenizedRows
    label_words: tuple[str, ...]
    teacher: Teacher | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointArguments:
    """The arguments of a joint training.

    Raises:
        InvalidArguments: a value outside its bounds
    """

    steps: int
    sources_per_step: int
    """How many sources a step takes rows of."""
    batch_size: int
    """Rows of each of them."""
    lr: float
    loss: LossName = "labels"
    seed: int = 0
    by_size: bool = False
    """Draw sources in proportion to their rows, instead of equally often."""

    def __post_init__(self) -> None:
        for name in ("steps", "sources_per_step", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise InvalidArguments(f"{name} is {value}, expected at least 1")
        if not 0 < self.lr <= 100:
            raise InvalidArguments(f"lr is {self.lr}, expected above 0 and at most 100")


@dataclass(frozen=True, slots=True)
class JointStep:
    """A step is done."""

    step: int
    num_steps: int
    loss: float
    """The mean over the sources of the step, in nats, without a penalty."""
    penalty: float | None


def train_joint(
    backbone: Backbone,
    model: JointModel,
    sources: Sequence[JointSource],
    arguments: JointArguments,
    *,
    folder: Path,
    described: Mapping[str, object],
    penalty: Callable[[Sequence[int]], Tensor] | None = None,
    on_step: Callable[[JointStep], None] = lambda step: None,
    checkpoint_every_s: float = EVERY_S,
) -> None:
    """Train a model on all sources, from the checkpoint in the folder if there is one.

    Args:
        folder: holds the checkpoint, which stays until the caller removes it
        described: what else decides the result, as values that JSON can hold; a checkpoint must have the same
        penalty: the mean over the sources of a step of a loss on the parameters themselves, given their indices

    Raises:
        InvalidCheckpoint: the checkpoint cannot be read, or is of other settings
        TrainingError: the loss is not finite
        KeyboardInterrupt: Ctrl-C; the checkpoint has the last step; one in the middle of an update keeps the former
    """
    run = _JointRun(backbone, model, sources, arguments, penalty)
    keeper = _Keeper(folder, {"arguments": asdict(arguments), **described}, checkpoint_every_s)
    keeper.restore(run)
    try:
        while run.step < arguments.steps:
            on_step(run.take_step())
            keeper.stepped(run)
    except KeyboardInterrupt:
        if not run.is_updating:
            keeper.write(run)
        raise
    keeper.write(run)


def train_prior(
    kind: PriorKind,
    backbone: Backbone,
    model: PriorModel,
    sources: Sequence[JointSource],
    arguments: JointArguments,
    *,
    digests: tuple[str, ...],
    settings: Mapping[str, object],
    folder: Path,
    precision: Precision,
    penalty: Callable[[Sequence[int]], Tensor] | None = None,
    on_step: Callable[[JointStep], None],
) -> Prior:
    """Train a model on all sources as `train_joint` does, and write what it leaves into the folder.

    Args:
        digests: of the source adapters
        settings: of this kind, as values that JSON can hold; a checkpoint must have the same
        precision: of the frozen network during training
    """
    fingerprint = backbone.identity.fingerprint
    described = {
        "kind": kind,
        "sources": digests,
        "rows": [source.rows.digest() for source in sources],
        "backbone": fingerprint,
        "precision": precision,
        **settings,
    }
    train_joint(
        backbone.in_precision(precision),
        model,
        sources,
        arguments,
        folder=folder,
        described=described,
        penalty=penalty,
        on_step=on_step,
    )
    prior = Prior(kind, model.tensors(), fingerprint, digests).write(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return prior


@dataclass(slots=True, eq=False)
class _Part:
    """A source's prompt, as the method of a job."""

    model: JointModel
    number: int
    sampled_token_ids: tuple[int, ...] = ()

    def prompt(self) -> Tensor:
        return self.model.prompt(self.number)

    def parameter_groups(self) -> list[ParameterGroup]:
        return self.model.parameter_groups()

    def state(self) -> dict[str, Tensor]:
        """Nothing: the checkpoint of the model has the parameters of all its parts."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over({}, state)


class _JointRun:
    """A joint training in progress."""

    def __init__(
        self,
        backbone: Backbone,
        model: JointModel,
        sources: Sequence[JointSource],
        arguments: JointArguments,
        penalty: Callable[[Sequence[int]], Tensor] | None,
    ) -> None:
        self._backbone, self._arguments, self._penalty = backbone, arguments, penalty
        own = TrainArguments(method="simple", loss=arguments.loss, seed=arguments.seed)
        self._jobs = [
            TrainingJob(
                method=_Part(model, number),
                arguments=own,
                trie=backbone.label_trie(source.label_words),
                rows=source.rows,
                selection=source.rows,
                label_words=source.label_words,
                teacher=source.teacher,
            )
            for number, source in enumerate(sources)
        ]
        self._losses: list[tuple[LabelLoss, ...]] = [label_losses(job, backbone) for job in self._jobs]
        self.optimizer = torch.optim.AdamW(model.parameter_groups(), lr=arguments.lr)
        self.step = 0
        self.is_updating = False
        """Whether parameters, moments and `step` may disagree."""

    def take_step(self) -> JointStep:
        """Take an optimiser step on the mean gradient over some sources."""
        self.optimizer.zero_grad(set_to_none=True)
        generator = np.random.default_rng([self._arguments.seed, self.step])
        chosen = self._chosen(generator)
        batches = [self._batch(number, generator) for number in chosen]
        backpropagate(self._backbone, [row for batch in batches for row in batch.rows])
        loss = float(np.mean([batch.loss for batch in batches]))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {self.step + 1}; try a lower learning rate")
        for batch in batches:
            batch.backward()
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad /= len(batches)
        penalty = None if self._penalty is None else self._penalty(chosen)
        if penalty is not None:
            penalty.backward()  # type: ignore[no-untyped-call]
        self.is_updating = True
        self.optimizer.step()
        self.step += 1
        self.is_updating = False
        return JointStep(self.step, self._arguments.steps, loss, None if penalty is None else float(penalty.detach()))

    def _chosen(self, generator: np.random.Generator) -> list[int]:
        """Draw the sources of a step, without repetition."""
        sizes = np.array([len(job.rows) for job in self._jobs], dtype=np.float64)
        shares = sizes / sizes.sum() if self._arguments.by_size else None
        count = min(self._arguments.sources_per_step, len(self._jobs))
        return sorted(generator.choice(len(self._jobs), size=count, replace=False, p=shares).tolist())

    def _batch(self, number: int, generator: np.random.Generator) -> PromptBatch:
        job = self._jobs[number]
        count = min(self._arguments.batch_size, len(job.rows))
        rows: NDArray[np.int64] = generator.choice(len(job.rows), size=count, replace=False)
        return PromptBatch(job, rows, self._losses[number], step=self.step)


@dataclass(slots=True)
class _Keeper:
    """Reads and writes the checkpoint of a joint training."""

    folder: Path
    settings: Mapping[str, object]
    every_s: float
    _written_s: float = field(default_factory=time.monotonic)

    def restore(self, run: _JointRun) -> None:
        """Continue from the checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header: dict[str, Any] = json.loads((file.metadata() or {})["joint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            was, step = header["settings"], int(header["step"])
            now = json.loads(json.dumps(self.settings))
            if different := [name for name in now if was.get(name) != now[name]]:
                raise InvalidCheckpoint(
                    f"cannot resume {path}: its {', '.join(different)} differ from what was asked for; "
                    "name another folder with --out"
                )
            load_optimizer_tensors(run.optimizer, tensors)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as exc:
            raise InvalidCheckpoint(f"{path} is not a valid checkpoint: {exc}") from exc
        run.step = step

    def stepped(self, run: _JointRun) -> None:
        """Write a checkpoint if one is due."""
        if time.monotonic() - self._written_s >= self.every_s:
            self.write(run)

    def write(self, run: _JointRun) -> None:
        """Replace the checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        header = json.dumps({"settings": self.settings, "step": run.step})
        data = safetensors.torch.save(optimizer_tensors(run.optimizer), metadata={"joint": header})
        atomic_write({self.folder / CHECKPOINT: data}, synced=True)
        self._written_s = time.monotonic()
