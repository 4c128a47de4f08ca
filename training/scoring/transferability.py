"""How well a source task's prompt may suit a target task: similarities of prompts, and of the states that they cause.

SPoT (Vu et al. 2022, §4.1) compares prompts: the cosine of their mean vectors, or the mean cosine of all pairs of their
vectors. PANDA (Zhong et al. 2022) compares tasks in the model's space of states: a task's embedding is the mean state
of rows under the task's prompt, and the transferability is the cosine of two of them. An adapter carries no rows, so
both prompts see the rows of the target here.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backbone import Backbone
from training.readouts.head import frozen_states

MAX_ROWS = 128
"""Rows that a task's embedding is the mean of: more of them hardly change it, and take longer."""


def mean_similarity(source: Tensor, target: Tensor) -> float:
    """Return the cosine of the mean vectors of two prompts [P_s, H] and [P_t, H]: SPoT's similarity of average tokens.

    A prompt whose mean is zero is similar to none.
    """
    return float(F.cosine_similarity(source.float().mean(0), target.float().mean(0), dim=0))


def token_similarity(source: Tensor, target: Tensor) -> float:
    """Return the mean cosine over all pairs of vectors of two prompts: SPoT's per-token similarity."""
    units = [F.normalize(prompt.float(), dim=1) for prompt in (source, target)]
    return float((units[0] @ units[1].T).mean())


def task_embedding(backbone: Backbone, prompt: Tensor, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Return the mean over rows of the decoder's first state behind a prompt [P, H], [H].

    It is T5's counterpart of the state that the classifiers of the paper read.
    """
    mean: NDArray[np.float32] = frozen_states(backbone, token_ids, "soft", prompt=prompt.to(backbone.device)).mean(0)
    return mean


def transferability(backbone: Backbone, source: Tensor, target: Tensor, token_ids: Sequence[Sequence[int]]) -> float:
    """Return PANDA's metric: the cosine of the task embeddings of two prompts on the same rows, −1 to 1."""
    ours, theirs = (torch.from_numpy(task_embedding(backbone, each, token_ids)) for each in (source, target))
    return float(F.cosine_similarity(ours, theirs, dim=0))


def sampled_rows(token_ids: Sequence[Sequence[int]], *, seed: int) -> list[Sequence[int]]:
    """Return the rows that embeddings are computed from: at most `MAX_ROWS`, drawn by a seed."""
    chosen = np.random.default_rng(seed).permutation(len(token_ids))[:MAX_ROWS]
    return [token_ids[index] for index in chosen.tolist()]
