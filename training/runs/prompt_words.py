"""A prompt in words: the vocabulary nearest to each of its vectors, and the tokens with the largest weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone import Backbone
from training.methods import FIRST_SAMPLED_ID, NUM_ORDINARY_IDS

NUM_NEAREST = 5
NUM_SUPERPOSED = 8


@dataclass(frozen=True, slots=True)
class WeightedPiece:
    """A piece of the vocabulary (`▁` marks a word's start) with its cosine or its weight."""

    piece: str
    value: float


@dataclass(frozen=True, slots=True)
class PromptWords:
    """Pieces for each of P prompt vectors, the strongest first."""

    nearest: tuple[tuple[WeightedPiece, ...], ...]
    """By cosine to the backbone's embedding table."""
    superposed: tuple[tuple[WeightedPiece, ...], ...]
    """By |p′_ij|; empty for a method that does not superpose token embeddings."""


def prompt_words(
    backbone: Backbone,
    prompt: NDArray[np.float32],  # [P, H]
    state: Mapping[str, Tensor],
    sampled_token_ids: tuple[int, ...],
) -> PromptWords:
    """Find the vocabulary nearest to a trained prompt.

    Args:
        state: the method's trained tensors; `weights` [P, m] are p′
        sampled_token_ids: the m tokens superposed
    """
    weights = state.get("weights")
    superposes = weights is not None and weights.dim() == 2 and weights.shape[1] == len(sampled_token_ids)
    return PromptWords(
        nearest=_nearest(backbone, torch.from_numpy(prompt.copy()).to(backbone.device)),
        superposed=_superposed(backbone, weights, sampled_token_ids) if superposes and weights is not None else (),
    )


def _nearest(backbone: Backbone, prompt: Tensor) -> tuple[tuple[WeightedPiece, ...], ...]:
    table = backbone.weights.embedding[FIRST_SAMPLED_ID:NUM_ORDINARY_IDS].float()  # [V, H]
    cosines = torch.nn.functional.normalize(prompt, dim=1) @ torch.nn.functional.normalize(table, dim=1).T  # [P, V]
    values, ids = cosines.topk(min(NUM_NEAREST, cosines.shape[1]), dim=1)
    return tuple(
        tuple(
            WeightedPiece(backbone.tokenizer.piece(FIRST_SAMPLED_ID + i), round(value, 4))
            for value, i in zip(of_vector, of_ids, strict=True)
        )
        for of_vector, of_ids in zip(values.tolist(), ids.tolist(), strict=True)
    )


def _superposed(
    backbone: Backbone,
    weights: Tensor,  # [P, m]
    token_ids: tuple[int, ...],
) -> tuple[tuple[WeightedPiece, ...], ...]:
    order = weights.abs().topk(min(NUM_SUPERPOSED, weights.shape[1]), dim=1).indices
    return tuple(
        tuple(WeightedPiece(backbone.tokenizer.piece(token_ids[j]), round(float(row[j]), 4)) for j in of_row)
        for row, of_row in zip(weights, order.tolist(), strict=True)
    )
