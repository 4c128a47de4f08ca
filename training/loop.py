"""`train_stack`: many prompts in one packed batch, each as if it were trained alone; `train`: a stack of one.

The backbone is frozen, a row attends to itself only and every slot has an optimiser of its own: one backward pass over
the sum of the slots' losses gives each prompt the gradient of its own loss and of no other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from backbone import Backbone, LabelTrie, PackedRow, pack
from training.arguments import TrainArguments
from training.evaluation import TokenizedRows
from training.events import EpochEvent, StepEvent, TrainResult
from training.methods import Method
from training.metrics import ACCURACY, Scoring
from training.slot import Slot, SlotBatch, SlotRun

MAX_PASS_TOKENS = 8_192
"""Packed tokens whose activations are kept for one backward pass; slots past it get a pass of their own."""


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
    on_epoch: Callable[[EpochEvent], None] = lambda event: None,
) -> TrainResult:
    """Train a prompt with AdamW and keep its best epoch. The loss is the served distribution's own.

    An interrupt (Ctrl-C) or a loss that is no number ends the run; what was best so far is the result.
    """
    slot = Slot(
        method=method,
        arguments=arguments,
        trie=trie,
        rows=rows,
        selection=selection,
        scoring=scoring,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    return train_stack(backbone, [slot])[0]


def train_stack(backbone: Backbone, slots: Sequence[Slot]) -> list[TrainResult]:
    """Train several prompts at once: other seeds, rates, methods or tasks, each with its own rows and epochs.

    What each comes to is what it would have come to alone, but for the order of floating-point sums. One whose loss is
    no number ends and leaves the others alone; so does one that has had its epochs. An interrupt (Ctrl-C) ends all; of
    each, what was best so far is the result.
    """
    runs = [SlotRun(slot, backbone) for slot in slots]
    try:
        for run in runs:
            run.begin()
        while active := [run for run in runs if run.stop is None]:
            _step(backbone, active)
    except KeyboardInterrupt:
        if not all(run.history for run in runs):
            raise
        for run in runs:
            run.stop = run.stop or "interrupted"
    return [run.result() for run in runs]


def _step(backbone: Backbone, runs: Sequence[SlotRun]) -> None:
    for run in runs:
        run.clear_gradients()
    batches = [SlotBatch(run, run.slot.method.prompt(), run.next_batch()) for run in runs]
    for together in _passes(batches):
        losses = _losses(backbone, together)
        finite = [loss for loss in losses if bool(torch.isfinite(loss))]
        if finite:
            torch.autograd.backward(torch.stack(finite).sum())
        for batch, loss in zip(together, losses, strict=True):
            batch.run.update(float(loss.detach()), num_rows=len(batch.rows))


def _losses(backbone: Backbone, batches: Sequence[SlotBatch]) -> list[Tensor]:
    """Each slot's mean negative log-likelihood over its own rows, from one packed batch of all."""
    rows: list[PackedRow] = []
    first = 0
    for batch in batches:
        prompt = range(first, first + batch.prompt.shape[0])
        rows += [PackedRow(prompt, ids) for ids in batch.token_ids]
        first = prompt.stop
    prompts = torch.cat([batch.prompt for batch in batches])  # [ΣP, H]
    encoded = backbone.encode(pack(rows, device=backbone.device), prompts)
    scores = backbone.score(encoded, [batch.run.slot.trie for batch in batches for _ in batch.rows])  # [ΣB, K]
    losses = []
    for batch, part in zip(batches, torch.split(scores, [len(batch.rows) for batch in batches]), strict=True):
        labels = torch.from_numpy(batch.labels).to(scores.device)
        losses.append(-part.gather(1, labels[:, None]).mean())
    return losses


def _passes(batches: Iterable[SlotBatch]) -> Iterator[list[SlotBatch]]:
    """Batches that are packed together, within `MAX_PASS_TOKENS` where more than one is."""
    together: list[SlotBatch] = []
    num_tokens = 0
    for batch in batches:
        if together and num_tokens + batch.num_tokens > MAX_PASS_TOKENS:
            yield together
            together, num_tokens = [], 0
        together.append(batch)
        num_tokens += batch.num_tokens
    yield together
