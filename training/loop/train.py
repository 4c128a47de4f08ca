"""`train_stack`: many prompts in one packed batch, each as if it were trained alone; `train`: a stack of one.

The backbone is frozen, a row attends to itself only and every job has an optimiser of its own: one backward pass over
the sum of all rows' losses gives each row's prompt the gradient of its own loss and of no other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from backbone import Backbone, LabelTrie
from training.config.arguments import TrainArguments
from training.loop.checkpoint import Checkpoints
from training.loop.events import EvalEvent, StepEvent, TrainResult
from training.loop.objective import row_losses
from training.loop.prompt_run import BatchRow, PromptRun, TrainingJob
from training.loop.timing import Timer
from training.methods import Method
from training.scoring.evaluation import TokenizedRows
from training.task.scoring import ACCURACY, Scoring

MAX_PASS_TOKENS = {"cpu": 2_048, "cuda": 32_768}
"""Packed tokens whose activations are kept for one backward pass; a step of more has several, and sums gradients."""


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
    """Train a prompt with AdamW and keep its best evaluation. The loss is the served distribution's own.

    An interrupt (Ctrl-C) or a loss that is no number ends the run; what was best so far is the result.
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
    """Train several prompts at once: other seeds, rates, methods or tasks, each with its own rows and epochs.

    What each comes to is what it would have come to alone, but for the order of floating-point sums. One whose loss is
    no number ends and leaves the others alone; so does one that has had its epochs. An interrupt (Ctrl-C) ends all; of
    each, what was best so far is the result. With checkpoints, the stack goes on from those that are there.

    Raises:
        InvalidCheckpoint: one cannot be read
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
    """One step of each job, by packed passes over the rows of all."""
    batches = [run.next_batch() for run in runs]
    rows = [row for batch in batches for row in batch.rows]
    kinds: dict[tuple[bool, bool, int], list[BatchRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    for alike in kinds.values():
        for together in _passes(alike, max_tokens=MAX_PASS_TOKENS[backbone.device.type]):
            _accumulate(backbone, together)
    for batch in batches:
        batch.update()


def _accumulate(backbone: Backbone, rows: Sequence[BatchRow]) -> None:
    """Find the loss and the gradient of each row by one packed pass, forward and backward."""
    losses = row_losses(backbone, rows)
    losses[torch.isfinite(losses)].sum().backward()  # type: ignore[no-untyped-call]
    for row, loss in zip(rows, losses.tolist(), strict=True):
        row.loss = loss


def _passes(rows: Iterable[BatchRow], *, max_tokens: int) -> Iterator[list[BatchRow]]:
    """Rows, shortest first, dealt to passes of at most `max_tokens`; a longer row has one of its own."""
    together: list[BatchRow] = []
    num_tokens = 0
    for row in sorted(rows, key=lambda row: row.num_tokens):
        if together and num_tokens + row.num_tokens > max_tokens:
            yield together
            together, num_tokens = [], 0
        together.append(row)
        num_tokens += row.num_tokens
    yield together
