"""`train_stack` trains many prompts in one packed batch, each as if alone; `train` trains one.

The backbone is frozen, a row attends only to itself and every job has its own optimiser. One backward pass over the sum
of all rows' losses therefore gives each row's prompt the gradient of its own loss only.
"""

from collections.abc import Callable, Iterable, Sequence

import torch

from backbone import Backbone, LabelTrie, divide
from training.config.arguments import TrainArguments
from training.loop.batch import BatchRow, RowKind
from training.loop.checkpoint import Checkpoints
from training.loop.events import EvalEvent, StepEvent, TrainResult
from training.loop.job import TrainingJob
from training.loop.objective import row_losses
from training.loop.prompt_run import PromptRun
from training.loop.timing import Timer
from training.methods import Method
from training.scoring.evaluation import TokenizedRows
from training.task.scoring import ACCURACY, Scoring

MAX_PASS_TOKENS = {"cpu": 2_048, "cuda": 32_768}
"""Maximum packed tokens per backward pass; a larger step takes several passes and sums their gradients."""


def train(
    backbone: Backbone,
    method: Method,
    arguments: TrainArguments,
    *,
    trie: LabelTrie,
    rows: TokenizedRows,
    selection: TokenizedRows,
    scoring: Scoring = ACCURACY,
    on_step: Callable[[StepEvent], None] = lambda event: None,
    on_evaluation: Callable[[EvalEvent], None] = lambda event: None,
) -> TrainResult:
    """Train a prompt with AdamW and return its best evaluation.

    Ctrl-C, or a loss that is not finite, ends the run with the best prompt so far.
    """
    job = TrainingJob(
        method=method,
        arguments=arguments,
        trie=trie,
        rows=rows,
        selection=selection,
        scoring=scoring,
        on_step=on_step,
        on_evaluation=on_evaluation,
    )
    return train_stack(backbone, [job])[0]


def train_stack(
    backbone: Backbone, jobs: Sequence[TrainingJob], checkpoints: Checkpoints | None = None
) -> list[TrainResult]:
    """Train several prompts together: different seeds, rates, methods or tasks, each with its own rows and epochs.

    Each result is the one that training the prompt alone would give, up to the order of floating-point sums. A job
    whose loss is not finite, or whose epochs are done, leaves the stack without affecting the others. Ctrl-C ends all
    jobs with their best prompts so far. If there are checkpoints, the stack resumes from them.

    Raises:
        InvalidCheckpoint: a checkpoint cannot be read
    """
    training = Timer()
    runs = [PromptRun(job, backbone, training) for job in jobs]
    checkpoints = checkpoints or Checkpoints()
    checkpoints.restore(runs)
    try:
        for run in runs:
            if not run.history:
                run.begin()
        checkpoints.begun(runs)
        for run in runs:
            if run.is_fitted and run.stop is None:
                with training:
                    run.fit()
                run.end_step(stack_size=1)
        while active := [run for run in runs if run.stop is None]:
            with training:
                _step(backbone, active)
            for run in active:
                run.end_step(stack_size=len(active))
            checkpoints.stepped(runs)
    except KeyboardInterrupt:
        if not all(run.history for run in runs):
            raise
        for run in runs:
            run.interrupt()
    return [run.result() for run in runs]


def _step(backbone: Backbone, runs: Sequence[PromptRun]) -> None:
    """Take one step of every job, in packed passes over the rows of all."""
    batches = [run.next_batch() for run in runs]
    backpropagate(backbone, [row for batch in batches for row in batch.rows])
    for run, batch in zip(runs, batches, strict=True):
        run.update(batch)


def backpropagate(backbone: Backbone, rows: Iterable[BatchRow]) -> None:
    """Compute the loss and gradient of each row, in packed passes over rows of one kind."""
    kinds: dict[RowKind, list[BatchRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    for alike in kinds.values():
        for together in _passes(alike, max_tokens=MAX_PASS_TOKENS[backbone.device.type]):
            _accumulate(backbone, together)


def _accumulate(backbone: Backbone, rows: Sequence[BatchRow]) -> None:
    """Compute the loss and gradient of each row in one packed pass, forward and backward."""
    losses = row_losses(backbone, rows)
    losses[torch.isfinite(losses)].sum().backward()  # type: ignore[no-untyped-call]
    for row, loss in zip(rows, losses.tolist(), strict=True):
        row.loss = loss


def _passes(rows: Iterable[BatchRow], *, max_tokens: int) -> list[list[BatchRow]]:
    """Divide rows, shortest first, into passes of at most `max_tokens`; a longer row gets a pass of its own."""
    return divide(sorted(rows, key=lambda row: row.num_tokens), lambda row: row.num_tokens, at_most=max_tokens)
