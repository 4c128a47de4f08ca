"""One-shot prompting, a baseline without training: an example of each label in words before every text.

The paper's appendix A.3 asks GPT-3.5 in this way. Here the frozen backbone itself reads the examples: each is a
training row followed by `answer:` and its label words, and the text to classify ends in `answer:`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone import Backbone, Encoded, LabelTrie, PackedRow, pack
from training.errors import InvalidArguments
from training.methods.protocol import ParameterGroup

_ASK = "answer:"


class OneShot:
    """The frozen backbone behind examples."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(self, backbone: Backbone) -> None:
        """Start without examples; `show` or `load_state` adds them."""
        self._backbone = backbone
        self._examples = torch.zeros(0, dtype=torch.int64)
        (self._ask,) = backbone.tokenizer.pieces([_ASK])
        self._nothing = nn.Parameter(torch.zeros(0))

    def show(
        self,
        token_ids: Sequence[Sequence[int]],  # n × [T_i], training rows
        labels: NDArray[np.int64],  # [n]
        label_words: Sequence[str],
        *,
        seed: int,
    ) -> None:
        """Choose an example of each label that occurs, in an order that the seed decides too."""
        order = np.random.default_rng(seed).permutation(len(token_ids)).tolist()
        chosen: dict[int, int] = {}
        for row in order:
            chosen.setdefault(int(labels[row]), row)
        words = self._backbone.tokenizer.pieces([f"{_ASK} {label_words[label]}" for label in chosen])
        examples = [
            token
            for row, answer in zip(chosen.values(), words, strict=True)
            for token in (*token_ids[row][:-1], *answer)  # without the end of the sequence
        ]
        self._examples = torch.tensor(examples, dtype=torch.int64)

    def prompt(self) -> Tensor:
        """Return an empty prompt, [0, H]."""
        return torch.zeros(0, self._backbone.width, device=self._backbone.device)

    def scores(self, trie: LabelTrie, token_ids: Sequence[Sequence[int]], *, seed: int | None = None) -> Tensor:
        """Return label log-probabilities, [B, K]; without dropout, whatever the seed."""
        del seed
        return self._backbone.score(self._encoded(token_ids), [trie] * len(token_ids))

    def log_likelihoods(
        self, targets: Sequence[LabelTrie], token_ids: Sequence[Sequence[int]], *, seed: int | None = None
    ) -> Tensor:
        """Return the log-likelihood of every target token, [ΣM_i]; without dropout, whatever the seed."""
        del seed
        return self._backbone.log_likelihoods(self._encoded(token_ids), targets)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return a group with an empty parameter, which optimisers accept."""
        return [{"params": [self._nothing], "weight_decay": 0.0}]

    def state(self) -> dict[str, Tensor]:
        """`examples`: the token ids before each text."""
        return {"examples": self._examples}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() != {"examples"} or state["examples"].dtype != torch.int64:
            raise InvalidArguments(f"the state of one_shot has {sorted(state)}, expected examples of int64")
        self._examples = state["examples"].clone()

    def _encoded(self, token_ids: Sequence[Sequence[int]]) -> Encoded:
        examples = self._examples.tolist()
        rows = [PackedRow((), (*examples, *ids[:-1], *self._ask, ids[-1])) for ids in token_ids]
        return self._backbone.encode(pack(rows, device=self._backbone.device), self.prompt())
