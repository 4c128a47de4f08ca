"""`train`: the optimisation loop over frozen arguments. Knows nothing of files, progress bars or registries."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.adapter import MAX_ROW_NORM
from backbone import Backbone, LabelTrie
from training.errors import InvalidArguments
from training.evaluation import TokenizedRows, evaluate, label_scores
from training.methods import NUM_ORDINARY_IDS, Basis, Method, MethodName, Simple, SuperPos
from training.metrics import Metrics
from training.task_file import Metric

Stop = Literal["finished", "interrupted", "diverged"]

DEFAULT_LR: dict[MethodName, float] = {"superpos": 0.01, "simple": 0.3}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """What a run is made of. Defaults are the paper's but for the epochs and, for `simple`, Lester et al.'s rate.

    Raises:
        InvalidArguments: a value outside its range
    """

    method: MethodName = "superpos"
    basis: Basis = "per_token"
    num_virtual_tokens: int = 10
    num_sampled_tokens: int = 128
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.01
    weight_decay: float = 1e-5
    seed: int = 0
    metric: Metric = "accuracy"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_virtual_tokens", 1, 100),
            ("num_sampled_tokens", 1, NUM_ORDINARY_IDS - 3),
            ("epochs", 1, 100_000),
            ("batch_size", 1, 4_096),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidArguments(f"{name} is {getattr(self, name)}, expected {low} to {high}")
        if not 0 < self.lr <= 100:
            raise InvalidArguments(f"lr is {self.lr}, expected above 0 and at most 100")
        if not 0 <= self.weight_decay <= 1:
            raise InvalidArguments(f"weight_decay is {self.weight_decay}, expected 0 to 1")


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One optimiser step is done."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rows: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class EpochEvent:
    """An epoch was evaluated on the selection rows; epoch 0 is the untrained prompt."""

    epoch: int
    train_loss: float | None
    metrics: Metrics
    is_best: bool
    prompt: NDArray[np.float32]  # [P, H]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The best prompt and how the run got there."""

    prompt: NDArray[np.float32]  # [P, H]
    best_epoch: int
    epochs: tuple[EpochEvent, ...]
    stop: Stop

    @property
    def best(self) -> Metrics:
        """The selection metrics of the best epoch."""
        return self.epochs[self.best_epoch].metrics

    @property
    def untrained(self) -> Metrics:
        return self.epochs[0].metrics


def make_method(arguments: TrainArguments, embedding: Tensor) -> Method:
    """The method that the arguments name, started from its seed."""
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.method == "simple":
        return Simple(
            embedding,
            num_virtual_tokens=arguments.num_virtual_tokens,
            weight_decay=arguments.weight_decay,
            generator=generator,
        )
    return SuperPos(
        embedding,
        num_virtual_tokens=arguments.num_virtual_tokens,
        num_sampled_tokens=arguments.num_sampled_tokens,
        basis=arguments.basis,
        weight_decay=arguments.weight_decay,
        generator=generator,
    )


def train(
    backbone: Backbone,
    method: Method,
    arguments: TrainArguments,
    *,
    trie: LabelTrie,
    rows: TokenizedRows,
    selection: TokenizedRows,
    on_step: Callable[[StepEvent], None] = lambda event: None,
    on_epoch: Callable[[EpochEvent], None] = lambda event: None,
) -> TrainResult:
    """Train a prompt with AdamW and keep its best epoch. The loss is the served distribution's own.

    An interrupt (Ctrl-C) or a loss that is no number ends the run; what was best so far is the result.
    """
    run = _Run(backbone, method, arguments, trie, rows, selection, on_step, on_epoch)
    stop: Stop = "finished"
    try:
        run.evaluate_epoch(0, None)
        for epoch in range(1, arguments.epochs + 1):
            loss = run.train_epoch(epoch)
            if loss is None:
                stop = "diverged"
                break
            if not run.evaluate_epoch(epoch, loss):
                stop = "diverged"
                break
    except KeyboardInterrupt:
        if not run.history:
            raise
        stop = "interrupted"
    best = run.history[run.best_epoch]
    return TrainResult(best.prompt, run.best_epoch, tuple(run.history), stop)


@dataclass
class _Run:
    backbone: Backbone
    method: Method
    arguments: TrainArguments
    trie: LabelTrie
    rows: TokenizedRows
    selection: TokenizedRows
    on_step: Callable[[StepEvent], None]
    on_epoch: Callable[[EpochEvent], None]

    def __post_init__(self) -> None:
        self.history: list[EpochEvent] = []
        self.best_epoch = 0
        self._optimizer = torch.optim.AdamW(self.method.parameter_groups(), lr=self.arguments.lr)
        self._order = np.random.default_rng(self.arguments.seed)
        self._started = time.monotonic()
        self._step = 0

    def train_epoch(self, epoch: int) -> float | None:
        """One pass over the rows; its mean loss, or None where the loss stopped being a number."""
        losses = []
        num_batches = -(-len(self.rows) // self.arguments.batch_size)
        for batch in self._batches():
            loss = self._train_batch(batch)
            if not np.isfinite(loss):
                return None
            losses.append(loss)
            self._step += 1
            self.on_step(
                StepEvent(epoch, self._step, num_batches * self.arguments.epochs, loss, len(batch), self._elapsed())
            )
        return float(np.mean(losses))

    def evaluate_epoch(self, epoch: int, train_loss: float | None) -> bool:
        """Score the prompt as it is now; False where it is out of what an adapter may be, and so nothing to keep."""
        with torch.no_grad():
            prompt = self.method.prompt().detach().clone()
        norms = prompt.norm(dim=1)  # [P]
        if not bool((norms <= MAX_ROW_NORM).all()):
            return False
        metrics = evaluate(self.backbone, prompt, self.trie, self.selection)
        is_best = not self.history or self._beats(metrics, self.history[self.best_epoch].metrics)
        if is_best:
            self.best_epoch = epoch
        event = EpochEvent(epoch, train_loss, metrics, is_best, prompt.cpu().numpy(), self._elapsed())
        self.history.append(event)
        self.on_epoch(event)
        return True

    def _beats(self, metrics: Metrics, best: Metrics) -> bool:
        chosen = self.arguments.metric
        ours, theirs = metrics.figures()[chosen], best.figures()[chosen]
        return (ours, -metrics.loss) > (theirs, -best.loss)

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        order = self._order.permutation(len(self.rows))
        for start in range(0, len(order), self.arguments.batch_size):
            yield order[start : start + self.arguments.batch_size]

    def _train_batch(self, batch: NDArray[np.int64]) -> float:
        scores = label_scores(
            self.backbone, self.method.prompt(), self.trie, [self.rows.token_ids[i] for i in batch]
        )  # [B, K]
        labels = torch.from_numpy(self.rows.labels[batch]).to(scores.device)
        loss = -scores.gather(1, labels[:, None]).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return float(loss.detach())

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
