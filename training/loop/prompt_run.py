"""`PromptRun`: the progress of one training job, which the stack advances step by step."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone import Backbone, LabelVectors
from training.loop.batch import PromptBatch
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, Stop, TrainResult
from training.loop.head_fit import fit_candidates, num_candidates
from training.loop.job import TrainingJob, label_losses
from training.loop.prompt_run_state import PromptRunState, load_optimizer_tensors, optimizer_tensors
from training.loop.row_order import RowOrder
from training.loop.timing import Timer, Timing
from training.methods import NoPrompt, OneShot, has_no_prompt
from training.methods.protocol import check_start, is_within_bounds
from training.readouts.head import MAX_START_ROWS, START_STRENGTH, fit_heads, frozen_states
from training.readouts.trained import TrainedReadout
from training.scoring.evaluation import predict
from training.scoring.metrics import Metrics
from training.scoring.out_of_fold import OutOfFold, fold_rank, scorable


class PromptRun:
    """A training job in progress: its row order, its optimiser and its evaluations."""

    def __init__(self, job: TrainingJob, backbone: Backbone, training: Timer) -> None:
        """Set the job up; `begin` or `restore` comes next.

        Args:
            training: runs while the stack takes a step
        """
        self.job, self._backbone = job, backbone
        self.history: list[EvalEvent] = []
        self.stop: Stop | None = None
        """Why it ended; None while it trains."""
        self._best_index = 0
        self._best_readout: LabelVectors | None = None
        self._out_of_fold: OutOfFold | None = None
        groups = [*job.method.parameter_groups(), *([] if job.readout is None else job.readout.parameter_groups())]
        self._optimizer = torch.optim.AdamW(groups, lr=job.arguments.lr)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        arguments = job.arguments
        self._order = RowOrder(
            job.rows.labels, batch_size=arguments.batch_size, seed=arguments.seed, sampling=arguments.sampling
        )
        self._label_losses = label_losses(job, backbone)
        self._losses: list[float] = []
        self._training, self._timing = training, Timing(training)

    def begin(self) -> None:
        """Score the untrained prompt, then fit the readout to it if the arguments say so.

        Raises:
            InvalidArguments: its values are not valid in an adapter
        """
        if self.job.folds is None:
            self._evaluate(None)
        else:
            self._evaluate_start(self.job.folds)
        if not self.history:
            check_start(self.job.method)
        if self.job.readout is not None and self.job.arguments.readout_init == "fitted" and not self.is_fitted:
            with self._timing.evaluating:
                self._fit_start(self.job.readout)

    def _fit_start(self, readout: TrainedReadout) -> None:
        """Start the readout at the head that fits the initial prompt; a fit outside an adapter's bounds is dropped.

        From zeros or from label words, the first epochs would move the prompt after vectors that mean nothing yet.
        """
        job = self.job
        rows = np.random.default_rng(job.arguments.seed).permutation(len(job.rows.token_ids))[:MAX_START_ROWS]
        with torch.no_grad():
            prompt = job.method.prompt().detach()
        token_ids = [job.rows.token_ids[row] for row in rows]
        states = frozen_states(self._backbone, token_ids, readout.state, prompt=prompt)
        (head,) = fit_heads(states, job.rows.labels[rows], num_labels=readout.num_labels, strengths=(START_STRENGTH,))
        before = readout.copy()
        readout.set(torch.from_numpy(head.vectors), torch.from_numpy(head.bias))
        if not readout.is_exportable:
            readout.set(before.vectors, before.bias)

    @property
    def is_fitted(self) -> bool:
        """Whether the readout is fitted in one go (`fit`) instead of trained in steps."""
        return isinstance(self.job.method, NoPrompt)

    def fit(self) -> None:
        """Fit the readout of a job without a prompt: one evaluation for each strength of regularisation."""
        job, readout, prompt = self.job, self.job.readout, self.job.method.prompt()
        assert readout is not None
        if job.folds is None:
            states = frozen_states(self._backbone, job.rows.token_ids, readout.state)
            with self._timing.evaluating:
                held_out = frozen_states(self._backbone, job.selection.token_ids, readout.state)
        else:
            states, held_out = np.split(self._states, [len(job.rows)])
        for fitted in fit_candidates(job, states, held_out):
            readout.set(torch.from_numpy(fitted.head.vectors), torch.from_numpy(fitted.head.bias))
            self._timing.step(rows=len(states) if job.folds is None else len(states) + len(held_out))
            if self._is_exportable(prompt):
                self._record(prompt, fitted.metrics, fitted.train_loss, fitted.out_of_fold)
        self.stop = "finished"

    @cached_property
    def _states(self) -> NDArray[np.float32]:  # [n, S·H]
        """The states of all rows of a job without a prompt."""
        assert self.job.readout is not None
        return frozen_states(self._backbone, self.job.all_rows.token_ids, self.job.readout.state)

    def next_batch(self) -> PromptBatch:
        """Draw the rows of the next step and compute their prompts."""
        self._optimizer.zero_grad(set_to_none=True)
        return PromptBatch(self.job, self._order.next_batch(), self._label_losses, step=self._step)

    def update(self, batch: PromptBatch) -> None:
        """Take an optimiser step with a batch whose passes are done; a loss that is not finite ends the run instead."""
        loss = batch.loss
        if not np.isfinite(loss):
            self.stop = "diverged"
            return
        batch.backward()
        self._clip()
        share = self._rate_share()
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimizer.step()
        self._losses.append(loss)
        num_rows = len(batch.rows)
        self._timing.step(rows=num_rows)
        training_s = self._timing.training_s
        self.job.on_step(StepEvent(self._order.epoch, self._step, self._num_steps, loss, num_rows, training_s))

    def end_step(self, *, stack_size: int) -> None:
        """Close a step of the stack, in which `stack_size` prompts took part, and score the prompt if that is due."""
        self._timing.end_step(stack_size=stack_size)
        if self.stop is None and self._is_evaluation_due():
            self._evaluate(float(np.mean(self._losses)))

    def interrupt(self) -> None:
        """End it now, unless it has ended."""
        if self.stop is None:
            self.stop = "interrupted"
            self._timing.end_step()

    def state(self) -> PromptRunState:
        """Return everything that `restore` needs; valid between two steps."""
        return PromptRunState(
            stop=self.stop,
            losses=tuple(self._losses),
            order=self._order.state(),
            best_index=self._best_index,
            elapsed_s=self._timing.elapsed_s,
            timing=self._timing.totals(),
            evaluations=tuple(self.history),
            tensors=optimizer_tensors(self._optimizer),
            readout=self._best_readout,
            out_of_fold=self._out_of_fold,
        )

    def restore(self, state: PromptRunState) -> None:
        """Resume from the state of a run with the same arguments and rows."""
        self.stop, self._losses = state.stop, list(state.losses)
        self._order.restore(state.order)
        self._best_index, self.history = state.best_index, list(state.evaluations)
        self._best_readout, self._out_of_fold = state.readout, state.out_of_fold
        self._timing.restore(state.timing, elapsed_s=state.elapsed_s)
        load_optimizer_tensors(self._optimizer, state.tensors)
        self.job.on_restore(RestoreEvent(state.evaluations, self._step))

    def result(self) -> TrainResult:
        """Return the result of a run that has ended."""
        assert self.stop is not None
        return TrainResult(
            tuple(self.history),
            self._best_index,
            self.stop,
            self._timing.totals(),
            self._best_readout,
            self._out_of_fold,
        )

    @property
    def _step(self) -> int:
        return self._timing.steps

    @property
    def _num_steps(self) -> int:
        if self.is_fitted:
            return num_candidates(self.job)
        if isinstance(self.job.method, OneShot):
            return 0
        return self.job.arguments.num_steps(self._order.steps_per_epoch)

    def _rate_share(self) -> float:
        """Return what the coming step's learning rate is of the full one: the warm-up times the schedule."""
        arguments, num_steps = self.job.arguments, self._num_steps
        rising = min(1.0, (self._step + 1) / (arguments.warmup * num_steps)) if arguments.warmup else 1.0
        return rising * (1 - self._step / num_steps if arguments.schedule == "linear" else 1.0)

    def _is_evaluation_due(self) -> bool:
        if self._step == self._num_steps:
            return True
        arguments = self.job.arguments
        every = arguments.eval_every
        if every is None and arguments.epochs * self._order.steps_per_epoch < self._num_steps:
            every = -(-self._num_steps // arguments.epochs)
        return self._order.is_epoch_over if every is None else self._step % every == 0

    def _clip(self) -> None:
        if self.job.arguments.clip is not None:
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.job.arguments.clip)

    def _evaluate(self, train_loss: float | None) -> None:
        """Score the current prompt and readout. What no adapter could hold ends the run and is not kept."""
        job = self.job
        with torch.no_grad():
            prompt = job.method.prompt().detach().clone()
        if not self._is_exportable(prompt):
            self.stop = "diverged"
            return
        scored = has_no_prompt(job.method) or prompt
        with self._timing.evaluating:
            log_probs = predict(self._backbone, scored, job.scored_by, job.selection.token_ids)
            metrics = job.selection.selected_by(log_probs, job.scoring)
        self._record(prompt, metrics, train_loss)

    def _evaluate_start(self, folds: NDArray[np.int64]) -> None:
        """Score the start of a fit to few rows on those that score the fits out of fold: it was fitted to none."""
        job, start, prompt = self.job, self.job.readout, self.job.method.prompt()
        assert start is not None
        if not self._is_exportable(prompt):
            self.stop = "diverged"
            return
        with self._training:
            states = torch.from_numpy(self._states).to(self._backbone.device)
        with self._timing.evaluating:
            rows = scorable(job.all_rows.labels, folds)
            log_probs = start.label_vectors.log_probs(states).cpu().numpy()[rows]
            metrics = job.all_rows.at(rows).selected_by(log_probs, job.scoring)
        self._record(prompt, metrics, None, OutOfFold(rows, log_probs, int(folds.max()) + 1))

    def _is_exportable(self, prompt: Tensor) -> bool:
        """Return whether an adapter could hold a prompt [P, H] and the current readout."""
        return is_within_bounds(prompt) and (self.job.readout is None or self.job.readout.is_exportable)

    def _record(
        self, prompt: Tensor, metrics: Metrics, train_loss: float | None, out_of_fold: OutOfFold | None = None
    ) -> None:
        """Add an evaluation of a prompt and the current readout to the history, and keep the readout if it is best."""
        is_best = not self.history or self._rank(metrics) > self._rank(self.history[self._best_index].metrics)
        if is_best:
            self._best_index, self._out_of_fold = len(self.history), out_of_fold
            self._best_readout = None if self.job.readout is None else self.job.readout.copy()
        # a fit uses all rows at once
        epoch = self._step if self.is_fitted else self._order.epoch
        event = EvalEvent(
            epoch,
            self._step,
            train_loss,
            metrics,
            is_best,
            prompt.cpu().numpy(),
            self._timing.elapsed_s,
            out_of_fold is not None,
        )
        self.history.append(event)
        self._losses = []
        self.job.on_evaluation(event)
        self.stop = self._stop()

    def _rank(self, metrics: Metrics) -> tuple[float, float]:
        """Rank an evaluation, the best highest: by its score, on equal scores by its loss, or by `fold_rank`."""
        if self.job.folds is not None:
            return fold_rank(metrics, self.job.scoring)
        return metrics.score, -metrics.loss

    def _stop(self) -> Stop | None:
        if self._step == self._num_steps:
            return "finished"
        patience = self.job.arguments.patience
        if patience and len(self.history) - 1 - self._best_index >= patience:
            return "patience"
        return "pruned" if self._step and self._should_prune() else None

    def _should_prune(self) -> bool:
        return self.job.should_prune(self.history[-1], self.history[self._best_index].metrics)
