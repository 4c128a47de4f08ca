"""Learned readouts as rows of the prompt table: label vectors and biases, which are loaded with the prompt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapters import PromptAdapter
from backbone import Activation, LabelVectors, LearnedState
from backbone.readout import PARTS
from backbone.trie import EDGES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class LearnedLabels:
    """Shape of a learned readout, whose values are the last rows of its adapter."""

    state: LearnedState
    num_labels: int
    activation: Activation = "softmax"

    def search_budget(self, top_k: int | None) -> int | None:  # noqa: ARG002 - same signature as `LabelTrie`
        """Return None: one product scores all labels, however many are asked for."""
        return None

    def cost(self, top_k: int | None) -> int:  # noqa: ARG002
        """Return an upper bound on the cost of a row's labels in tokens, like `LabelTrie.cost`."""
        return (1 if "soft" in PARTS[self.state] else 0) + self.num_labels // EDGES_PER_TOKEN

    def num_rows(self, width: int) -> int:
        """Return S·K + ⌈K / H⌉, the number of its rows of width H."""
        return len(PARTS[self.state]) * self.num_labels + -(-self.num_labels // width)

    def vectors(self, rows: Tensor) -> LabelVectors:
        """Return the readout from its rows [S·K + ⌈K / H⌉, H]: those of `adapter_rows` after the prompt's."""
        num_rows = len(PARTS[self.state]) * self.num_labels
        vectors, bias = rows[:num_rows].reshape(self.num_labels, -1), rows[num_rows:].flatten()[: self.num_labels]
        return LabelVectors(self.state, vectors, bias, activation=self.activation)


def adapter_rows(adapter: PromptAdapter) -> NDArray[np.float32]:
    """Return an adapter's values as rows of H: prompt, each label's vector in S rows, and the biases in ⌈K / H⌉."""
    readout = adapter.readout
    if readout is None:
        return adapter.prompt
    width = adapter.width
    biases = np.zeros((-(-readout.num_labels // width), width), dtype=np.float32)
    biases.flat[: readout.num_labels] = readout.label_bias
    return np.concatenate([adapter.prompt, readout.label_vectors.reshape(-1, width), biases])
