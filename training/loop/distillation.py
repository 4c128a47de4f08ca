"""Distillation: a job's prompt learns from its rows' labels, and from the answers of a frozen prompt to the same rows.

MPT (Wang et al. 2023, §3.1): the Kullback-Leibler divergence of the student's answers from the teacher's, plus the mean
squared difference of their hidden states. PANDA (Zhong et al. 2022): the mean squared difference of the logits; their
code divides it by the batch size too. An answer is the served distribution over the task's labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone import Backbone, Encoded, PackedRow, pack

if TYPE_CHECKING:
    from training.loop.batch import BatchRow

DistillationLoss = Literal["mpt", "panda"]


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A frozen prompt, and the weight of what is learnt from it."""

    prompt: Tensor  # [P′, H]
    weight: float
    loss: DistillationLoss


def encode_with(backbone: Backbone, prompts: Sequence[Tensor], token_ids: Sequence[Sequence[int]]) -> Encoded:
    """Encode rows, each behind a prompt of its own [P_i, H]."""
    ends = list(accumulate(len(prompt) for prompt in prompts))
    packed = [
        PackedRow(range(end - len(prompt), end), ids) for prompt, ids, end in zip(prompts, token_ids, ends, strict=True)
    ]
    return backbone.encode(pack(packed, device=backbone.device), torch.cat(list(prompts)))


def distillation_losses(
    backbone: Backbone,
    rows: Sequence["BatchRow"],
    encoded: Encoded,
    scores: Tensor,  # [B, K], the students' label log-probabilities, differentiable
) -> Tensor:
    """Return what each row adds to its loss, [B], for rows that have a teacher.

    Args:
        encoded: the students' encoder output
    """
    teachers = [row.teacher for row in rows]
    prompts = [teacher.prompt for teacher in teachers if teacher is not None]
    assert len(prompts) == len(rows)
    with torch.no_grad():
        taught = encode_with(backbone, prompts, [row.token_ids for row in rows])
        answers = backbone.score(taught, [row.trie for row in rows])  # [B, K]
    needs_states = any(teacher is not None and teacher.loss == "mpt" for teacher in teachers)
    states = _state_losses(backbone, encoded, taught) if needs_states else None
    losses = []
    for index, (row, teacher) in enumerate(zip(rows, teachers, strict=True)):
        assert teacher is not None
        own, theirs = (each[index, : row.trie.num_labels] for each in (scores, answers))
        if teacher.loss == "panda":
            loss = squared_logits(own, theirs)
        else:
            assert states is not None
            loss = divergence(own, theirs) + states[index]
        losses.append(teacher.weight * loss)
    return torch.stack(losses)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher ‖ student) of log-probabilities [K], in nats."""
    return F.kl_div(student, teacher, reduction="sum", log_target=True)


def squared_logits(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of label log-probabilities [K], the logits of the served distribution."""
    return F.mse_loss(student, teacher)


def _state_losses(backbone: Backbone, student: Encoded, teacher: Encoded) -> Tensor:
    """Return the mean squared difference of each row's last states: of its text in the encoder, plus in the decoder.

    The decoder's state is the first one, which decides the first piece of the label words.
    """
    norm = backbone.weights.encoder_norm
    own, theirs = (backbone.states(encoded, "soft") for encoded in (student, teacher))  # [B, H]
    losses = []
    for index, (ours, other) in enumerate(zip(student.spans, teacher.spans, strict=True)):
        difference = student.hidden[ours.text_start : ours.end] - teacher.hidden[other.text_start : other.end]
        losses.append((difference.float() * norm).square().mean() + F.mse_loss(own[index], theirs[index]))
    return torch.stack(losses)
