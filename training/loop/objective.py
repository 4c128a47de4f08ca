"""The training losses: over the served label distribution, or over the whole vocabulary as in the paper."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone import Backbone, Dropout, Encoded, LearnedState, PackedRow, pack
from training.loop.batch import BatchRow
from training.loop.distillation import distillation_losses


def row_losses(backbone: Backbone, rows: Sequence[BatchRow]) -> Tensor:
    """Return the loss of each row in nats, [B], differentiable in the prompts or in the rows' own model.

    `labels`: −log p of the label among the task's labels. `full`: teacher-forced cross-entropy, the sum of −log p over
    the tokens of the label words and end-of-sequence, each among the whole vocabulary.

    The loss of a learned readout is the cross-entropy with smoothed labels, and in a multi-label job the mean binary
    cross-entropy of the labels. It is differentiable in the prompts; the
    gradient of its vectors is computed from what the backward pass stores in the rows (`PromptBatch.backward`).

    Args:
        rows: of one `kind`
    """
    if rows[0].readout is not None:
        return _weighted(_learned_losses(backbone, rows, rows[0].readout.state), rows)
    if rows[0].teacher is not None:
        return _taught_losses(backbone, rows)
    log_probs = _own_log_probs(rows) if rows[0].model is not None else _log_probs(backbone, rows)
    return _weighted(-log_probs, rows)


def _weighted(losses: Tensor, rows: Sequence[BatchRow]) -> Tensor:
    return losses * torch.tensor([row.weight for row in rows], device=losses.device, dtype=losses.dtype)


def _encoded(backbone: Backbone, rows: Sequence[BatchRow], dropout: Dropout | None) -> Encoded:
    """Encode rows, each with its copy of the prompt."""
    ends = list(accumulate(row.prompt.shape[0] for row in rows))
    packed = [
        PackedRow(range(end - row.prompt.shape[0], end), row.token_ids) for row, end in zip(rows, ends, strict=True)
    ]
    prompts = torch.cat([row.prompt for row in rows])  # [ΣP, H]
    return backbone.encode(pack(packed, device=backbone.device), prompts, dropout=dropout)


def _dropout(backbone: Backbone, rows: Sequence[BatchRow]) -> Dropout | None:
    seeds = [row.dropout_seed for row in rows if row.dropout_seed is not None]
    return Dropout(seeds, device=backbone.device) if seeds else None


def _learned_losses(backbone: Backbone, rows: Sequence[BatchRow], state: LearnedState) -> Tensor:
    """Return each row's cross-entropy under its learned readout, [B]; store each row's state, and later the gradient of
    its logits, in the row.
    """
    dropout = _dropout(backbone, rows)
    states = backbone.states(_encoded(backbone, rows, dropout), state, dropout=dropout)  # [B, S·H]
    losses = []
    for row, row_state in zip(rows, states, strict=True):
        assert row.readout is not None
        kept = row_state if row.kept is None else row_state * row.kept.to(row_state.device)
        # one row at a time: a pass has the vectors of several jobs, and a row's sums must not depend on other rows
        logits = row.readout.label_vectors.logits(kept[None])[0]  # [K]
        row.state = kept.detach()
        logits.register_hook(partial(_keep_gradient, row))  # type: ignore[no-untyped-call]
        losses.append(_learned_loss(logits, row))
    return torch.stack(losses)


def _learned_loss(logits: Tensor, row: BatchRow) -> Tensor:
    """Return the loss of a row from the logits of its learned readout, [K]."""
    if row.decisions is not None:
        targets = (row.decisions * (1 - row.smoothing) + row.smoothing / 2).to(logits.device)
        weights = None if row.decision_weights is None else row.decision_weights.to(logits.device)
        return F.binary_cross_entropy_with_logits(logits, targets, weight=weights)
    log_probs = torch.log_softmax(logits, dim=0)
    return -(1 - row.smoothing) * log_probs[row.label] - row.smoothing * log_probs.mean()


def _keep_gradient(row: BatchRow, gradient: Tensor) -> None:
    row.logit_gradient = gradient


def _log_probs(backbone: Backbone, rows: Sequence[BatchRow]) -> Tensor:
    """Return log p of each row's label, [B], from one packed pass."""
    dropout = _dropout(backbone, rows)
    encoded = _encoded(backbone, rows, dropout)
    targets = [row.target for row in rows if row.target is not None]
    if targets:
        return _summed(backbone.log_likelihoods(encoded, targets, dropout=dropout), rows)
    return backbone.score(encoded, [row.choices for row in rows], dropout=dropout)[:, 0]


def _taught_losses(backbone: Backbone, rows: Sequence[BatchRow]) -> Tensor:
    """Return each row's loss with what its teacher adds, [B], from one packed pass and one of the teachers."""
    dropout = _dropout(backbone, rows)
    encoded = _encoded(backbone, rows, dropout)
    scores = backbone.score(encoded, [row.trie for row in rows], dropout=dropout)  # [B, K]
    targets = [row.target for row in rows if row.target is not None]
    if targets:
        log_probs = _summed(backbone.log_likelihoods(encoded, targets, dropout=dropout), rows)
    else:
        log_probs = torch.stack([scores[index, row.label] for index, row in enumerate(rows)])
    return _weighted(-log_probs, rows) + distillation_losses(backbone, rows, encoded, scores)


def _own_log_probs(rows: Sequence[BatchRow]) -> Tensor:
    """Return log p of each row's label, [B], under the rows' own model."""
    model, seed = rows[0].model, rows[0].dropout_seed
    assert model is not None
    token_ids = [row.token_ids for row in rows]
    targets = [row.target for row in rows if row.target is not None]
    if targets:
        return _summed(model.log_likelihoods(targets, token_ids, seed=seed), rows)
    scores = model.scores(rows[0].trie, token_ids, seed=seed)  # [B, K]
    labels = torch.tensor([row.label for row in rows], device=scores.device)
    return scores.gather(1, labels[:, None])[:, 0]


def _summed(log_likelihoods: Tensor, rows: Sequence[BatchRow]) -> Tensor:
    sizes = [row.target.num_nodes for row in rows if row.target is not None]
    return torch.stack([part.sum() for part in torch.split(log_likelihoods, sizes)])
