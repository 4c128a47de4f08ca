"""The frozen T5 as one value: its identity, its tokenizer, and the one forward for serving and training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.decoder import TreeBias, decode
from backbone.encoder import encode
from backbone.errors import InvalidLabels
from backbone.packing import PackedBatch
from backbone.relative_bias import EncoderBias
from backbone.scoring import label_log_probs
from backbone.text import TextTokenizer
from backbone.trie import LabelTrie, build_trie
from backbone.weights import T5Weights


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoder's answer to a packed batch."""

    hidden: Tensor  # [N, H]
    offsets: tuple[int, ...]  # [B + 1], row i is offsets[i] : offsets[i + 1]


@dataclass(frozen=True, slots=True)
class BackboneId:
    """What names a backbone: where it came from, and what it is."""

    id: str
    revision: str
    fingerprint: str


class Backbone:
    """One T5 in memory. Its tensors never change; one thread at a time may call `encode` and `score`."""

    def __init__(
        self, identity: BackboneId, architecture: Architecture, weights: T5Weights, tokenizer: TextTokenizer
    ) -> None:
        self.identity, self.architecture, self.weights, self.tokenizer = identity, architecture, weights, tokenizer
        buckets, distance = architecture.relative_buckets, architecture.relative_max_distance
        self._encoder_bias = EncoderBias(weights.encoder_bias, num_buckets=buckets, max_distance=distance)
        self._tree_bias = TreeBias(weights.decoder_bias, num_buckets=buckets, max_distance=distance)

    @property
    def width(self) -> int:
        """H, the width that a prompt must have."""
        return self.architecture.width

    @property
    def device(self) -> torch.device:
        return self.weights.embedding.device

    def label_trie(self, labels: Sequence[str]) -> LabelTrie:
        """The trie of a task's label words, in their order.

        Raises:
            InvalidLabels: words that cannot be told apart as tokens, are empty, or pass a limit.
        """
        for words in labels:
            if not words.strip():
                raise InvalidLabels("label words", words, "at least one visible character")
        pieces = self.tokenizer.pieces(labels)
        return build_trie(pieces, start_id=self.architecture.start_id, eos_id=self.architecture.eos_id)

    def encode(self, packed: PackedBatch, prompts: Tensor) -> Encoded:
        """Run the encoder over packed rows.

        Args:
            packed: the rows, indices into `prompts` among them
            prompts: the prompt table [R, H]; it alone can receive a gradient
        """
        hidden = encode(packed, prompts, weights=self.weights, architecture=self.architecture, bias=self._encoder_bias)
        return Encoded(hidden, packed.offsets)

    def score(self, encoded: Encoded, tries: Sequence[LabelTrie]) -> Tensor:
        """Each row's label log-probabilities under constrained decoding, [B, K]; −inf past a row's own labels."""
        nodes = decode(
            encoded.hidden,
            encoded.offsets,
            tries,
            weights=self.weights,
            architecture=self.architecture,
            bias=self._tree_bias,
        )
        return label_log_probs(nodes, self.weights.head, tries)
