"""The frozen T5 as one value: its identity, its tokenizer, and the one forward for serving and training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.best_first import best_first
from backbone.decoder import TrieNodes, decode
from backbone.dropout import Dropout
from backbone.encoder import encode
from backbone.errors import InvalidLabels
from backbone.node_passes import passes
from backbone.packing import PackedBatch
from backbone.precision import Precision, check_device, in_precision
from backbone.relative_bias import EncoderBias
from backbone.scoring import label_log_probs
from backbone.sequences import chain
from backbone.text import TextTokenizer
from backbone.tree_bias import TreeBias
from backbone.trie import LabelTrie, build_trie, prefix_chain
from backbone.weights import T5Weights

SMALL_TRIE = 4
"""Tries of so few nodes are decoded whole: a second pass would cost more."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoder's answer to a packed batch, for `score` alone: the weight of the last norm is folded into that."""

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
        self,
        identity: BackboneId,
        architecture: Architecture,
        weights: T5Weights,
        tokenizer: TextTokenizer,
        *,
        precision: Precision = "fp32",
    ) -> None:
        """Put a backbone together from float32 weights; they are turned to `precision` here."""
        self.identity, self.architecture, self.tokenizer, self.precision = identity, architecture, tokenizer, precision
        self.weights = weights = in_precision(weights, precision)
        buckets, distance = architecture.relative_buckets, architecture.relative_max_distance
        self._encoder_bias = EncoderBias(weights.encoder_bias, num_buckets=buckets, max_distance=distance)
        self._tree_bias = TreeBias(weights.decoder_bias, num_buckets=buckets, max_distance=distance)

    def in_precision(self, precision: Precision) -> "Backbone":
        """This float32 backbone in another precision beside it; what that does not touch is shared.

        Raises:
            DeviceUnavailable: its device does not compute in that precision
        """
        if precision == self.precision:
            return self
        assert self.precision == "fp32", "rounded weights are no start for another precision"
        check_device(self.device, precision)
        return Backbone(self.identity, self.architecture, self.weights, self.tokenizer, precision=precision)

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

    def encode(
        self,
        packed: PackedBatch,
        prompts: Tensor,
        *,
        pause: Callable[[], None] = lambda: None,
        dropout: Dropout | None = None,
    ) -> Encoded:
        """Run the encoder over packed rows.

        Args:
            packed: the rows, indices into `prompts` among them
            prompts: the prompt table [R, H]; it alone can receive a gradient
            pause: called again and again on the way, when `prompts` has been read; may encode and score other rows
            dropout: for training; `score` is given the same
        """
        hidden = encode(
            packed,
            prompts,
            weights=self.weights,
            architecture=self.architecture,
            bias=self._encoder_bias,
            pause=pause,
            dropout=dropout,
        )
        return Encoded(hidden, packed.offsets)

    def score(
        self,
        encoded: Encoded,
        tries: Sequence[LabelTrie],  # [B]
        *,
        top_k: Sequence[int | None] | None = None,  # [B]
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Each row's label log-probabilities under constrained decoding, [B, K]; −inf past a row's own labels.

        With `top_k`, a row that asks for its best k labels has at least those, exactly, and −inf for labels that
        were not needed to tell. Without, or for a small trie, it has them all.
        """
        asked = top_k or [None] * len(tries)
        searching = [
            i
            for i, (trie, k) in enumerate(zip(tries, asked, strict=True))
            if k is not None and k < trie.num_labels and trie.num_nodes > SMALL_TRIE
        ]
        if not searching:
            return self._score_all(encoded, range(len(tries)), tries, dropout)
        whole = sorted(set(range(len(tries))) - set(searching))
        width = max(trie.num_labels for trie in tries)
        scores = encoded.hidden.new_full((len(tries), width), float("-inf"), dtype=torch.float32)
        if whole:
            part = self._score_all(encoded, whole, [tries[i] for i in whole])
            scores[whole, : part.shape[1]] = part
        part = best_first(
            lambda rows, nodes: self._decode(encoded, [searching[row] for row in rows], nodes),
            self.weights.head,
            [tries[i] for i in searching],
            [cast(int, asked[i]) for i in searching],
        )
        scores[searching, : part.shape[1]] = part
        return scores

    def target(self, words: str) -> LabelTrie:
        """Label words as what `log_likelihoods` takes."""
        (pieces,) = self.tokenizer.pieces([words])
        return chain(pieces, start_id=self.architecture.start_id, eos_id=self.architecture.eos_id)

    def log_likelihoods(
        self,
        encoded: Encoded,
        targets: Sequence[LabelTrie],  # [B], of `target`
        *,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Log p of each token of each row's target among the whole vocabulary, teacher-forced, [ΣM_i]."""
        nodes = [TrieNodes(target, tuple(range(target.num_nodes))) for target in targets]
        logits = self._decode(encoded, range(len(targets)), nodes, dropout).float() @ self.weights.head.T  # [ΣM_i, V]
        tokens = torch.tensor([token for target in targets for token in target.edge_tokens], device=logits.device)
        return -torch.nn.functional.cross_entropy(logits, tokens, reduction="none")

    def next_token_logits(self, encoded: Encoded, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """Logits over the whole vocabulary for the token after each row's prefix (no start token in it), [B, V]."""
        chains = [prefix_chain([self.architecture.start_id, *prefix]) for prefix in prefixes]
        nodes = [TrieNodes(trie, tuple(range(trie.num_nodes))) for trie in chains]
        states = self._decode(encoded, range(len(prefixes)), nodes)  # [ΣM_i, H]
        last = torch.tensor([trie.num_nodes for trie in chains], device=states.device).cumsum(0) - 1
        return (states[last].to(self.weights.head.dtype) @ self.weights.head.T).float()

    def _score_all(
        self, encoded: Encoded, rows: Sequence[int], tries: Sequence[LabelTrie], dropout: Dropout | None = None
    ) -> Tensor:
        """[B, K] over whole tries."""
        states: list[Tensor] = []
        for parts in passes(tries):
            numbers, nodes = [rows[part.row] for part in parts], [part.nodes for part in parts]
            decoded = self._decode(encoded, numbers, nodes, dropout)
            for part, decoded_part in zip(
                parts, torch.split(decoded, [part.nodes.num_nodes for part in parts]), strict=True
            ):
                states.append(decoded_part[part.nodes.num_nodes - part.num_new :])
        return label_log_probs(torch.cat(states), self.weights.head, tries)

    def _decode(
        self, encoded: Encoded, rows: Sequence[int], nodes: Sequence[TrieNodes], dropout: Dropout | None = None
    ) -> Tensor:
        """States of the nodes wanted of each of the rows named, [ΣM_i, H]."""
        return decode(
            [encoded.hidden[encoded.offsets[row] : encoded.offsets[row + 1]] for row in rows],
            nodes,
            weights=self.weights,
            architecture=self.architecture,
            bias=self._tree_bias,
            drop=None if dropout is None else dropout.of([each.num_nodes for each in nodes], rows),
        )
