"""One prompt in training: its rows in their drawn order, its own optimiser, its best evaluation. The stack moves it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.adapter import MAX_ROW_NORM
from backbone import Backbone, LabelTrie
from training.config.arguments import TrainArguments
from training.data.balance import label_weights
from training.errors import InvalidArguments
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, Stop, TrainResult
from training.loop.optimizer_state import load_optimizer_tensors, optimizer_tensors
from training.loop.prompt_run_state import PromptRunState
from training.loop.row_order import RowOrder
from training.loop.timing import Timer, Timing
from training.methods import InputDependent, Method, OwnModel, has_no_prompt
from training.scoring.evaluation import TokenizedRows, evaluate
from training.scoring.metrics import Metrics
from training.task.scoring import ACCURACY, Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What one prompt of a stack is trained with. Nothing of it is shared but the frozen backbone."""

    method: Method
    arguments: TrainArguments
    trie: LabelTrie
    rows: TokenizedRows
    selection: TokenizedRows
    label_words: tuple[str, ...] = ()
    """[K], what the trie is made of; `loss: full` alone needs them."""
    scoring: Scoring = ACCURACY
    on_step: Callable[[StepEvent], None] = lambda event: None
    on_evaluation: Callable[[EvalEvent], None] = lambda event: None
    on_restore: Callable[[RestoreEvent], None] = lambda event: None
    """Told first, where the job goes on from a checkpoint."""
    should_prune: Callable[[EvalEvent, Metrics], bool] = lambda event, best: False
    """Asked after each evaluation but the first and the last, and told the best one so far, which might be the first: a
    job that is leaves the stack with it."""


class PromptRun:
    """A job on its way. `stop` is None until it has ended."""

    def __init__(self, job: TrainingJob, backbone: Backbone, training: Timer) -> None:
        """Nothing is scored yet; `training` runs while its stack takes a step."""
        self.job, self._backbone = job, backbone
        self.history: list[EvalEvent] = []
        self.stop: Stop | None = None
        self._best_index = 0
        self._optimizer = torch.optim.AdamW(job.method.parameter_groups(), lr=job.arguments.lr)
        arguments = job.arguments
        self._order = RowOrder(
            job.rows.labels, batch_size=arguments.batch_size, seed=arguments.seed, sampling=arguments.sampling
        )
        self.weights = _weights(job)
        self.targets = _targets(job, backbone)
        self.choices = tuple(job.trie.of_label(label) for label in range(job.trie.num_labels))
        """[K], what each label's own log-probability is made of."""
        self._losses: list[float] = []
        self._timing = Timing(training)

    def begin(self) -> None:
        """Score the untrained prompt."""
        self._evaluate(None)

    def next_batch(self) -> "PromptBatch":
        """The prompt as it is, and the rows of the next step."""
        self._optimizer.zero_grad(set_to_none=True)
        return PromptBatch(self, self._order.next_batch(), step=self._step)

    def update(self, loss: float, *, num_rows: int) -> None:
        """Take the step that the gradients ask for.

        Args:
            loss: the batch's mean; where it is no number there is no step, and the job ends
            num_rows: the batch's
        """
        if not np.isfinite(loss):
            self.stop = "diverged"
            return
        self._clip()
        self._optimizer.step()
        self._losses.append(loss)
        self._timing.step(rows=num_rows)
        training_s = self._timing.training_s
        self.job.on_step(StepEvent(self._order.epoch, self._step, self._num_steps, loss, num_rows, training_s))

    def end_step(self, *, stack_size: int) -> None:
        """The stack has taken a step with so many jobs: score the prompt where that is due."""
        self._timing.end_step(stack_size=stack_size)
        if self.stop is None and self._is_evaluation_due():
            self._evaluate(float(np.mean(self._losses)))

    def interrupt(self) -> None:
        """End it where it is, unless it has ended."""
        if self.stop is None:
            self.stop = "interrupted"
            self._timing.end_step()

    def state(self) -> PromptRunState:
        """Everything that `restore` needs, between two steps."""
        return PromptRunState(
            stop=self.stop,
            losses=tuple(self._losses),
            order=self._order.state(),
            best_index=self._best_index,
            elapsed_s=self._timing.elapsed_s,
            timing=self._timing.totals(),
            evaluations=tuple(self.history),
            tensors=optimizer_tensors(self._optimizer),
        )

    def restore(self, state: PromptRunState) -> None:
        """Go on where a state was taken of a job of the same arguments and rows."""
        self.stop, self._losses = state.stop, list(state.losses)
        self._order.restore(state.order)
        self._best_index, self.history = state.best_index, list(state.evaluations)
        self._timing.restore(state.timing, elapsed_s=state.elapsed_s)
        load_optimizer_tensors(self._optimizer, state.tensors)
        self.job.on_restore(RestoreEvent(state.evaluations, self._step))

    def result(self) -> TrainResult:
        """The best so far."""
        assert self.stop is not None
        return TrainResult(tuple(self.history), self._best_index, self.stop, self._timing.totals())

    @property
    def _step(self) -> int:
        return self._timing.steps

    @property
    def _num_steps(self) -> int:
        of_epochs = self.job.arguments.epochs * self._order.steps_an_epoch
        return min(of_epochs, self.job.arguments.max_steps or of_epochs)

    def _is_evaluation_due(self) -> bool:
        if self._step == self._num_steps:
            return True
        every = self.job.arguments.eval_every
        return self._order.at_epochs_end if every is None else self._step % every == 0

    def _clip(self) -> None:
        if self.job.arguments.clip is not None:
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.job.arguments.clip)

    def _evaluate(self, train_loss: float | None) -> None:
        """Score the prompt as it is now; one out of what an adapter may be ends the job, and is nothing to keep."""
        with torch.no_grad():
            prompt = self.job.method.prompt().detach().clone()
        if not bool((prompt.norm(dim=1) <= MAX_ROW_NORM).all()):  # [P]
            self.stop = "diverged"
            return
        scored = has_no_prompt(self.job.method) or prompt
        with self._timing.evaluating:
            metrics = evaluate(self._backbone, scored, self.job.trie, self.job.selection, scoring=self.job.scoring)
        is_best = not self.history or beats(metrics, self.history[self._best_index].metrics)
        if is_best:
            self._best_index = len(self.history)
        event = EvalEvent(
            self._order.epoch, self._step, train_loss, metrics, is_best, prompt.cpu().numpy(), self._timing.elapsed_s
        )
        self.history.append(event)
        self._losses = []
        self.job.on_evaluation(event)
        self.stop = self._stop()

    def _stop(self) -> Stop | None:
        if self._step == self._num_steps:
            return "finished"
        patience = self.job.arguments.patience
        if patience is not None and len(self.history) - 1 - self._best_index >= patience:
            return "patience"
        return "pruned" if self._step and self._should_prune() else None

    def _should_prune(self) -> bool:
        return self.job.should_prune(self.history[-1], self.history[self._best_index].metrics)


def _weights(job: TrainingJob) -> NDArray[np.float64]:
    """What a row's loss weighs, by its label [K]."""
    num_labels = job.trie.num_labels
    if not job.arguments.class_weights:
        return np.ones(num_labels)
    return label_weights(job.rows.labels, num_labels=num_labels)


def _targets(job: TrainingJob, backbone: Backbone) -> tuple[LabelTrie | None, ...]:
    """What the loss is taken of, by label [K], where it is the whole vocabulary's."""
    if job.arguments.loss == "labels":
        return (None,) * job.trie.num_labels
    if len(job.label_words) != job.trie.num_labels:
        raise InvalidArguments(
            f"loss 'full' was given {len(job.label_words)} label words, expected {job.trie.num_labels}"
        )
    return tuple(map(backbone.target, job.label_words))


def beats(metrics: Metrics, best: Metrics) -> bool:
    """Whether a score is better than the best one's; of equals, the lower loss is."""
    return (metrics.score, -metrics.loss) > (best.score, -best.loss)


class PromptBatch:
    """One job's part of a step: its rows, and for each of them a copy of the prompt that a pass can be run with.

    A row's gradient is taken by itself and they are summed in the batch's order: what a job learns does not depend on
    how a step was dealt to passes. Passes are forgotten one by one; the method's own graph is walked once, by `update`.
    """

    def __init__(self, run: PromptRun, rows: NDArray[np.int64], *, step: int) -> None:
        self.run = run
        job, method = run.job, run.job.method
        each: Sequence[Tensor]
        if isinstance(method, InputDependent):
            self._prompt = method.prompts([job.rows.token_ids[row] for row in rows])  # [B, P, H]
            each = list(self._prompt)
        else:
            self._prompt = method.prompt()  # [P, H]
            each = [self._prompt] * len(rows)
        self.rows = [
            BatchRow(run, int(row), prompt.detach().requires_grad_()) for row, prompt in zip(rows, each, strict=True)
        ]
        if job.arguments.dropout:
            seeds = dropout_seeds(job.arguments.seed, step=step, count=len(rows))
            for batch_row, seed in zip(self.rows, seeds, strict=True):
                batch_row.dropout_seed = seed
        if job.arguments.loss == "full":  # the mean over a batch's tokens, as `transformers` takes it
            num_tokens = sum(row.num_target_tokens for row in self.rows)
            for batch_row in self.rows:
                batch_row.weight *= len(rows) / num_tokens

    def update(self) -> None:
        """Hand the gradient on to the method, and let it take its step."""
        loss = float(np.mean([row.loss for row in self.rows]))
        if np.isfinite(loss):
            self._hand_on()
        self.run.update(loss, num_rows=len(self.rows))

    def _hand_on(self) -> None:
        method = self.run.job.method
        if isinstance(method, OwnModel):  # has its gradients, summed over rows, from the passes
            for group in method.parameter_groups():
                for parameter in group["params"]:
                    parameter.grad = None if parameter.grad is None else parameter.grad / len(self.rows)
            return
        gradients = torch.stack([row.prompt.grad for row in self.rows if row.prompt.grad is not None])  # [B, P, H]
        each_its_own = isinstance(method, InputDependent)
        self._prompt.backward(gradients / len(gradients) if each_its_own else gradients.mean(0))  # type: ignore[no-untyped-call]


def dropout_seeds(seed: int, *, step: int, count: int) -> list[int]:
    """Of a step's rows, in the batch's order: a run that goes on from a checkpoint draws what it would have drawn."""
    seeds: list[int] = np.random.SeedSequence([seed, step]).generate_state(count, np.uint64).tolist()
    return seeds


class BatchRow:
    """A training row in a step."""

    __slots__ = ("choices", "dropout_seed", "label", "loss", "model", "prompt", "target", "token_ids", "trie", "weight")

    def __init__(self, run: PromptRun, row: int, prompt: Tensor) -> None:
        job = run.job
        self.prompt = prompt  # [P, H], its gradient this row's alone
        self.model = job.method if isinstance(job.method, OwnModel) else None
        self.token_ids, self.label = job.rows.token_ids[row], int(job.rows.labels[row])
        self.trie, self.target, self.choices = job.trie, run.targets[self.label], run.choices[self.label]
        self.weight = float(run.weights[self.label])
        """What its loss is multiplied by."""
        self.dropout_seed: int | None = None
        """Of the draws that the frozen network drops out by; None without dropout."""
        self.loss = math.nan
        """In nats, when a pass has been run."""

    @property
    def num_tokens(self) -> int:
        """What it adds to a packed pass."""
        return self.prompt.shape[0] + len(self.token_ids)

    @property
    def num_target_tokens(self) -> int:
        """Of its label words with end-of-sequence."""
        return 0 if self.target is None else self.target.num_nodes

    @property
    def kind(self) -> tuple[bool, bool, int]:
        """Rows of one kind share a pass."""
        return (self.dropout_seed is None, self.target is None, id(self.model))
