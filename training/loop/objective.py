"""The training losses: over the served label distribution, or over the whole vocabulary as in the paper."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from backbone import Backbone, Dropout, PackedRow, pack
from training.loop.batch import BatchRow


def row_losses(backbone: Backbone, rows: Sequence[BatchRow]) -> Tensor:
    """Return the loss of each row in nats, [B], differentiable in the prompts or in the rows' own model.

    `labels`: −log p of the label among the task's labels. `full`: teacher-forced cross-entropy, the sum of −log p over
    the tokens of the label words and end-of-sequence, each among the whole vocabulary.

    Args:
        rows: of one `kind`
    """
    log_probs = _own_log_probs(rows) if rows[0].model is not None else _log_probs(backbone, rows)
    return -log_probs * torch.tensor([row.weight for row in rows], device=log_probs.device, dtype=log_probs.dtype)


def _log_probs(backbone: Backbone, rows: Sequence[BatchRow]) -> Tensor:
    """Return log p of each row's label, [B], from one packed pass."""
    ends = list(accumulate(row.prompt.shape[0] for row in rows))
    packed = [
        PackedRow(range(end - row.prompt.shape[0], end), row.token_ids) for row, end in zip(rows, ends, strict=True)
    ]
    prompts = torch.cat([row.prompt for row in rows])  # [ΣP, H]
    seeds = [row.dropout_seed for row in rows if row.dropout_seed is not None]
    dropout = Dropout(seeds, device=backbone.device) if seeds else None
    encoded = backbone.encode(pack(packed, device=backbone.device), prompts, dropout=dropout)
    targets = [row.target for row in rows if row.target is not None]
    if targets:
        return _summed(backbone.log_likelihoods(encoded, targets, dropout=dropout), rows)
    return backbone.score(encoded, [row.choices for row in rows], dropout=dropout)[:, 0]


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
