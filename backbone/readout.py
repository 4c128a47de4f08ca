"""Readouts: how a row's states become scores of its labels.

`words` walks the trie of the label words with the decoder. The others multiply a state of the row by a learned vector
per label: `soft` the decoder's first state, `pooled` the mean of the encoder's states of the text, and `joint` the two
concatenated. `soft` is known as a soft verbalizer (Hambardzumyan et al. 2021, "WARP").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.packing import RowSpan, texts_of
from backbone.staging import staged
from backbone.trie import LabelTrie

_BLOCK_ROWS = 16
"""Rows of one product with the label vectors. Kernels for other numbers of rows may add in another order: MKL does so
below 16 rows on processors with AMX (docs/decisions.md)."""
SingleState = Literal["soft", "pooled"]
LearnedState = Literal["soft", "pooled", "joint"]
"""`soft`: the decoder's first state, as the head reads it; `pooled`: the mean of the text's last encoder states;
`joint`: the two concatenated, in this order."""
PARTS: Mapping[LearnedState, tuple[SingleState, ...]] = {
    "soft": ("soft",),
    "pooled": ("pooled",),
    "joint": ("soft", "pooled"),
}
"""The states of H numbers that a state consists of."""
Activation = Literal["softmax", "sigmoid"]
"""`softmax`: a text has one label; `sigmoid`: each label has a probability of its own, for multi-label tasks."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelVectors:
    """A learned readout: log p = log-activation(state · vectorsᵀ + bias), in float32."""

    state: LearnedState
    vectors: Tensor  # [K, S·H], of the S parts of the state
    bias: Tensor  # [K]
    activation: Activation = "softmax"

    @property
    def num_labels(self) -> int:
        """K."""
        return len(self.bias)

    def logits(self, states: Tensor) -> Tensor:
        """Return the label logits [R, K] of states [R, S·H]; a row's logits do not depend on the other rows."""
        states = states.float()
        if torch.is_grad_enabled():
            return F.linear(states, self.vectors, self.bias)
        blocks = torch.split(F.pad(states, (0, 0, 0, -len(states) % _BLOCK_ROWS)), _BLOCK_ROWS)
        return torch.cat([F.linear(block, self.vectors, self.bias) for block in blocks])[: len(states)]

    def log_probs(self, states: Tensor) -> Tensor:
        """Return the label log-probabilities [R, K] of states [R, S·H]; those of `sigmoid` do not sum to one."""
        logits = self.logits(states)
        return F.logsigmoid(logits) if self.activation == "sigmoid" else torch.log_softmax(logits, dim=-1)


Readout = LabelTrie | LabelVectors
"""The readout of one row."""


def pooled_states(
    hidden: Tensor,  # [N, H], the encoder's last states without the weight of their norm
    norm: Tensor,  # [H], that weight
    spans: Sequence[RowSpan],
) -> Tensor:
    """Return the mean of the states of each row's text, [R, H] float32."""
    if hidden.device.type == "cpu":
        means = torch.stack([text.float().mean(0) for text in texts_of(hidden, spans)])
    else:
        # one kernel for all rows
        rows = torch.cat(texts_of(hidden, spans)).float()
        lengths = staged([span.end - span.text_start for span in spans], hidden.device)
        means = torch.segment_reduce(rows, "mean", lengths=lengths)
    return means * norm
