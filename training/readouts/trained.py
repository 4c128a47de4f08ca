"""`TrainedReadout`: label vectors and biases that are trained together with the prompt.

A vector's gradient is the sum over rows of (p − y) · state. A step keeps these factors per row and adds them up in
the order of the batch, so that the result does not depend on how the step was divided into passes.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapters import PromptAdapter, TaskSpec
from adapters.readout import MAX_VECTOR_NORM, LearnedReadout
from backbone import Backbone, LabelVectors, LearnedState, Readout
from backbone.readout import PARTS
from training.config.arguments import TrainArguments
from training.methods.protocol import ParameterGroup


class TrainedReadout:
    """Parameters of a learned readout."""

    def __init__(self, start: LabelVectors, arguments: TrainArguments) -> None:
        """Start from given vectors and biases."""
        self.start = start
        self._vectors = nn.Parameter(self.start.vectors.clone())
        self._bias = nn.Parameter(self.start.bias.clone())
        self._lr, self._weight_decay = arguments.readout_lr, arguments.readout_weight_decay

    @property
    def state(self) -> LearnedState:
        """The state that the vectors score."""
        return self.start.state

    @property
    def num_labels(self) -> int:
        """K."""
        return len(self._bias)

    @property
    def width(self) -> int:
        """S·H, of the states that the vectors score."""
        return int(self._vectors.shape[1])

    @property
    def label_vectors(self) -> LabelVectors:
        """The parameters as they are now, without gradients; later steps change them."""
        return replace(self.start, vectors=self._vectors.detach(), bias=self._bias.detach())

    def copy(self) -> LabelVectors:
        """Return a copy of the current values."""
        now = self.label_vectors
        return replace(now, vectors=now.vectors.clone(), bias=now.bias.clone())

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters with their own learning rate; biases have no weight decay."""
        return [
            {"params": [self._vectors], "lr": self._lr, "weight_decay": self._weight_decay},
            {"params": [self._bias], "lr": self._lr, "weight_decay": 0.0},
        ]

    def backward(self, logit_gradients: Tensor, states: Tensor) -> None:
        """Set the gradients of a mean loss.

        Args:
            logit_gradients: [B, K], of each row's loss with respect to its logits
            states: [B, S·H], the states that were scored
        """
        mean = logit_gradients / len(logit_gradients)
        self._vectors.grad = mean.T @ states
        self._bias.grad = mean.sum(0)

    @property
    def is_exportable(self) -> bool:
        """Whether the values are valid in an adapter: finite and within its bounds."""
        norms = torch.cat([self._vectors.detach().norm(dim=1), self._bias.detach().abs()])
        return bool((norms <= MAX_VECTOR_NORM).all())

    def set(self, vectors: Tensor, bias: Tensor) -> None:
        """Replace the values."""
        with torch.no_grad():
            self._vectors.copy_(vectors)
            self._bias.copy_(bias)


def start_readout(
    backbone: Backbone, arguments: TrainArguments, spec: TaskSpec, labels: NDArray[np.int64]
) -> TrainedReadout | None:
    """Return the readout that the arguments name, None for label words.

    On the decoder's state the vectors start as the mean of the head's rows of each label's words, so that the meaning
    of the words helps if there are few rows; on the encoder's they start at zero. Biases start at zero.

    The logits of a multi-label task are compared with zero instead of with each other. Its vectors are therefore
    centred over the labels, and its biases start at the log odds of each label's share of the rows.

    Args:
        labels: the labels of the training rows
    """
    if arguments.readout == "words":
        return None
    num_labels = len(spec.labels)
    vectors, bias = torch.zeros(num_labels, backbone.state_width(arguments.readout)), torch.zeros(num_labels)
    if "soft" in PARTS[arguments.readout]:  # it comes first
        pieces = backbone.tokenizer.pieces(list(spec.label_words))
        words = torch.stack([backbone.weights.head[list(tokens)].float().mean(0) for tokens in pieces])
        vectors[:, : backbone.width] = words
    if spec.is_multi_label:
        vectors = vectors - vectors.mean(0)
        shares = (labels.sum(axis=0) + 0.5) / (len(labels) + 1)
        bias = torch.from_numpy(np.log(shares / (1 - shares))).float()
    start = LabelVectors(
        arguments.readout, vectors.to(backbone.device), bias.to(backbone.device), activation=spec.activation
    )
    return TrainedReadout(start, arguments)


def exported(vectors: LabelVectors) -> LearnedReadout:
    """Return the readout in the form that an adapter stores."""
    return LearnedReadout(vectors.vectors.cpu().numpy(), vectors.bias.cpu().numpy())


def adapter_readout(backbone: Backbone, adapter: PromptAdapter) -> Readout:
    """Return the readout of an adapter in the form that the backbone scores with.

    Raises:
        backbone.InvalidLabels: label words that the tokenizer cannot tell apart
    """
    kind, learned = adapter.manifest.readout, adapter.readout
    if kind == "words" or learned is None:
        return backbone.label_trie(adapter.spec.label_words)
    vectors, bias = (
        torch.from_numpy(array.copy()).to(backbone.device) for array in (learned.label_vectors, learned.label_bias)
    )
    return LabelVectors(kind, vectors, bias, activation=adapter.spec.activation)
