"""One prompt in training: its rows in their drawn order, its own optimiser, its best epoch. The stack moves it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.adapter import MAX_ROW_NORM
from backbone import Backbone, LabelTrie
from training.arguments import TrainArguments
from training.evaluation import TokenizedRows, evaluate
from training.events import EpochEvent, StepEvent, Stop, TrainResult
from training.methods import Method
from training.metrics import ACCURACY, Metrics, Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one prompt of a stack is trained with. Nothing of it is shared but the frozen backbone."""

    method: Method
    arguments: TrainArguments
    trie: LabelTrie
    rows: TokenizedRows
    selection: TokenizedRows
    scoring: Scoring = ACCURACY
    on_step: Callable[[StepEvent], None] = lambda event: None
    on_epoch: Callable[[EpochEvent], None] = lambda event: None
    is_hopeless: Callable[[EpochEvent], bool] = lambda event: False
    """Asked after each evaluation but the first and the last: if so, the slot leaves the stack with its best so far."""


class SlotRun:
    """A slot on its way. `stop` is None until it has ended."""

    def __init__(self, slot: Slot, backbone: Backbone) -> None:
        self.slot, self._backbone = slot, backbone
        self.history: list[EpochEvent] = []
        self.stop: Stop | None = None
        self._best_epoch = 0
        self._optimizer = torch.optim.AdamW(slot.method.parameter_groups(), lr=slot.arguments.lr)
        self._order = np.random.default_rng(slot.arguments.seed)
        self._batches: Iterator[NDArray[np.int64]] = iter(())
        self._losses: list[float] = []
        self._epoch = 0
        self._step = 0
        self._started = time.monotonic()

    def begin(self) -> None:
        """Score the untrained prompt, which is epoch 0, and draw the first epoch's order."""
        self._evaluate(None)

    def next_batch(self) -> NDArray[np.int64]:
        """The rows of the next step; an epoch has one step at least."""
        batch = next(self._batches, None)
        assert batch is not None
        return batch

    def update(self, loss: float, *, num_rows: int) -> None:
        """Take the step that the gradients ask for; at an epoch's end, score the prompt.

        Args:
            loss: the batch's mean; where it is no number there is no step, and the slot ends
            num_rows: the batch's
        """
        if not np.isfinite(loss):
            self.stop = "diverged"
            return
        self._optimizer.step()
        self._losses.append(loss)
        self._step += 1
        num_steps = self._steps_an_epoch * self.slot.arguments.epochs
        self.slot.on_step(StepEvent(self._epoch, self._step, num_steps, loss, num_rows, self._elapsed()))
        if len(self._losses) == self._steps_an_epoch:
            self._evaluate(float(np.mean(self._losses)))

    def clear_gradients(self) -> None:
        """Forget the last step's."""
        self._optimizer.zero_grad(set_to_none=True)

    def result(self) -> TrainResult:
        """The best epoch so far."""
        assert self.stop is not None
        return TrainResult(self.history[self._best_epoch].prompt, self._best_epoch, tuple(self.history), self.stop)

    @property
    def _steps_an_epoch(self) -> int:
        return -(-len(self.slot.rows) // self.slot.arguments.batch_size)

    def _evaluate(self, train_loss: float | None) -> None:
        """Score the prompt as it is now; one out of what an adapter may be ends the slot, and is nothing to keep."""
        with torch.no_grad():
            prompt = self.slot.method.prompt().detach().clone()
        if not bool((prompt.norm(dim=1) <= MAX_ROW_NORM).all()):  # [P]
            self.stop = "diverged"
            return
        metrics = evaluate(self._backbone, prompt, self.slot.trie, self.slot.selection, scoring=self.slot.scoring)
        is_best = not self.history or beats(metrics, self.history[self._best_epoch].metrics)
        if is_best:
            self._best_epoch = self._epoch
        event = EpochEvent(self._epoch, train_loss, metrics, is_best, prompt.cpu().numpy(), self._elapsed())
        self.history.append(event)
        self.slot.on_epoch(event)
        self._begin_epoch()
        if self.stop is None and event.epoch > 0 and self.slot.is_hopeless(event):
            self.stop = "pruned"

    def _begin_epoch(self) -> None:
        if self._epoch == self.slot.arguments.epochs:
            self.stop = "finished"
            return
        self._epoch += 1
        self._losses = []
        order, size = self._order.permutation(len(self.slot.rows)), self.slot.arguments.batch_size
        self._batches = iter([order[start : start + size] for start in range(0, len(order), size)])

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def beats(metrics: Metrics, best: Metrics) -> bool:
    """Whether an epoch's score is better than the best one's; of equals, the lower loss is."""
    return (metrics.score, -metrics.loss) > (best.score, -best.loss)


@dataclass(frozen=True, slots=True)
class SlotBatch:
    """One slot's part of a step: its prompt [P, H], differentiable, and its rows."""

    run: SlotRun
    prompt: Tensor
    rows: NDArray[np.int64]

    @property
    def token_ids(self) -> list[tuple[int, ...]]:
        """Of each row."""
        return [self.run.slot.rows.token_ids[i] for i in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of each row, [n]."""
        labels: NDArray[np.int64] = self.run.slot.rows.labels[self.rows]
        return labels

    @property
    def num_tokens(self) -> int:
        """What its rows add to a packed batch."""
        return sum(self.prompt.shape[0] + len(ids) for ids in self.token_ids)
