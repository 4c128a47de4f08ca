"""`Backbone`: a frozen T5 with its identity, its tokenizer, and the forward that serving and training share."""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from backbone.architecture import Architecture
from backbone.best_first import Found, best_first
from backbone.decoder import TrieNodes, decode, passes
from backbone.dropout import Dropout
from backbone.encoder import Attention, encode
from backbone.errors import InvalidLabels
from backbone.packing import PackedBatch, RowSpan, rows_of
from backbone.pieces import Pause, no_pause
from backbone.precision import Precision, check_device, in_precision
from backbone.readout import PARTS, LabelVectors, LearnedState, Readout, SingleState, pooled_states
from backbone.relative_bias import EncoderBias, TreeBias
from backbone.scoring import label_log_probs
from backbone.staging import staged
from backbone.text import TextTokenizer
from backbone.trie import LabelTrie, build_trie, chain, prefix_chain
from backbone.weights import T5Weights, tensor_shapes


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoder output of a packed batch, without the weight of the last norm, which `score` and `states` apply."""

    hidden: Tensor  # [N, H]
    spans: tuple[RowSpan, ...]  # [B]

    def of(self, rows: Sequence[int]) -> "Encoded":
        """Return a selection of rows, in any order and with repetitions; nothing is copied."""
        return Encoded(self.hidden, tuple(self.spans[row] for row in rows))


@dataclass(frozen=True, slots=True)
class BackboneId:
    """Identity of a backbone: its source and its content."""

    id: str
    revision: str
    fingerprint: str


class Backbone:
    """A T5 in memory. Its tensors never change; only one thread at a time may call `encode` and `score`."""

    def __init__(
        self,
        identity: BackboneId,
        architecture: Architecture,
        weights: T5Weights,
        tokenizer: TextTokenizer,
        *,
        precision: Precision = "fp32",
        attention: Attention = "sdpa",
    ) -> None:
        """Build a backbone from float32 weights, which are converted to `precision`."""
        self.identity = identity
        self.architecture = architecture
        self.tokenizer = tokenizer
        self.precision = precision
        self.attention = attention
        self.weights = weights = in_precision(weights, precision)
        buckets, distance = architecture.relative_buckets, architecture.relative_max_distance
        self._encoder_bias = EncoderBias(weights.encoder_bias, num_buckets=buckets, max_distance=distance)
        self._tree_bias = TreeBias(weights.decoder_bias, num_buckets=buckets, max_distance=distance)
        self._first = prefix_chain([architecture.start_id])

    def in_precision(self, precision: Precision) -> "Backbone":
        """Return a copy of this float32 backbone in another precision; unconverted tensors are shared.

        Raises:
            DeviceUnavailable: the device does not support the precision
        """
        if precision == self.precision:
            return self
        assert self.precision == "fp32", "only float32 weights can be converted"
        check_device(self.device, precision)
        return Backbone(
            self.identity,
            self.architecture,
            self.weights,
            self.tokenizer,
            precision=precision,
            attention=self.attention,
        )

    def compact(self) -> "Backbone":
        """Return a copy without the weights that kernels keep in a layout of their own, for inference alone.

        It computes no gradients and converts to no other precision. Memory is saved once this backbone is gone.
        """
        copied = copy(self)
        copied.weights = self.weights.compact()
        return copied

    @property
    def width(self) -> int:
        """H, the required width of a prompt."""
        return self.architecture.width

    @property
    def num_parameters(self) -> int:
        """Number of the checkpoint's weights."""
        untied = self.weights.head is not self.weights.embedding
        return sum(map(math.prod, tensor_shapes(self.architecture, untied_head=untied).values()))

    @property
    def device(self) -> torch.device:
        return self.weights.embedding.device

    def label_trie(self, labels: Sequence[str]) -> LabelTrie:
        """Return the trie of a task's label words, in their order.

        Raises:
            InvalidLabels: words are empty, have the same tokens, or exceed a limit.
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
        pause: Pause = no_pause,
        dropout: Dropout | None = None,
    ) -> Encoded:
        """Run the encoder over packed rows.

        Args:
            packed: the rows, with indices into `prompts`
            prompts: the prompt table [R, H], the only tensor that can receive a gradient
            pause: called between pieces of bounded work, after `prompts` has been read; may encode and score other rows
            dropout: for training; pass the same to `score`
        """
        hidden = encode(
            packed,
            prompts,
            weights=self.weights,
            architecture=self.architecture,
            bias=self._encoder_bias,
            attention=self.attention,
            pause=pause,
            dropout=dropout,
        )
        return Encoded(hidden, packed.spans)

    def score(
        self,
        encoded: Encoded,
        readouts: Sequence[Readout],  # [B]
        *,
        top_k: Sequence[int | None] | None = None,  # [B]
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return each row's label log-probabilities, [B, K]; −inf beyond a row's labels.

        Label words are scored by constrained decoding. With `top_k`, a row has exact values for at least its best k
        labels, and −inf for labels that were not needed.
        """
        if top_k is None:
            return self._score_all(encoded, range(len(readouts)), readouts, dropout)
        found = self.search(encoded, readouts, top_k)
        if found.exhausted:
            part = self._score_all(encoded, found.exhausted, [readouts[row] for row in found.exhausted])
            found.scores[found.exhausted, : part.shape[1]] = part
        return found.scores

    def search(
        self,
        encoded: Encoded,
        readouts: Sequence[Readout],  # [B]
        top_k: Sequence[int | None],  # [B], None: all labels
        *,
        pause: Pause = no_pause,
    ) -> Found:
        """Score like `score`, except that a search may end at its budget (`LabelTrie.search_budget`).

        `pause` is called as in `encode`.
        """
        searching: list[int] = []
        tries: list[LabelTrie] = []
        budgets: list[int] = []
        for row, (readout, k) in enumerate(zip(readouts, top_k, strict=True)):
            if isinstance(readout, LabelTrie) and (budget := readout.search_budget(k)) is not None:
                searching.append(row)
                tries.append(readout)
                budgets.append(budget)
        if not searching:
            return Found(self._score_all(encoded, range(len(readouts)), readouts, pause=pause), [])
        whole = sorted(set(range(len(readouts))) - set(searching))
        width = max(readout.num_labels for readout in readouts)
        scores = encoded.hidden.new_full((len(readouts), width), float("-inf"), dtype=torch.float32)
        if whole:
            part = self._score_all(encoded, whole, [readouts[i] for i in whole], pause=pause)
            scores[whole, : part.shape[1]] = part
        found = best_first(
            lambda rows, nodes: self._decode(encoded, [searching[row] for row in rows], nodes, pause=pause),
            self.weights.head,
            tries,
            [cast(int, top_k[i]) for i in searching],
            budgets,
        )
        scores[searching, : found.scores.shape[1]] = found.scores
        return Found(scores, [searching[row] for row in found.exhausted])

    def states(
        self,
        encoded: Encoded,
        state: LearnedState,
        *,
        rows: Sequence[int] | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return the states that a learned readout scores, [B, S·H] (`readout.PARTS`), of all rows or of `rows`."""
        rows = range(len(encoded.spans)) if rows is None else rows
        return _joined([self._state(encoded, part, rows, dropout) for part in PARTS[state]])

    def state_width(self, state: LearnedState) -> int:
        """Return the width S·H of the states that a learned readout scores."""
        return len(PARTS[state]) * self.width

    def _state(self, encoded: Encoded, state: SingleState, rows: Sequence[int], dropout: Dropout | None) -> Tensor:
        """Return one of the states of each row, [B, H]."""
        if state == "soft":
            return self._decode(encoded, rows, [TrieNodes(self._first, (0,))] * len(rows), dropout).float()
        return pooled_states(encoded.hidden, self.weights.encoder_norm, [encoded.spans[row] for row in rows])

    def target(self, words: str) -> LabelTrie:
        """Return label words in the form that `log_likelihoods` takes."""
        (pieces,) = self.tokenizer.pieces([words])
        return chain(pieces, start_id=self.architecture.start_id, eos_id=self.architecture.eos_id)

    def log_likelihoods(
        self,
        encoded: Encoded,
        targets: Sequence[LabelTrie],  # [B], of `target`
        *,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return the teacher-forced log p of each target token over the whole vocabulary, [ΣM_i]."""
        nodes = [TrieNodes(target, tuple(range(target.num_nodes))) for target in targets]
        logits = self._decode(encoded, range(len(targets)), nodes, dropout).float() @ self.weights.head.T  # [ΣM_i, V]
        tokens = torch.tensor([token for target in targets for token in target.edge_tokens], device=logits.device)
        return -torch.nn.functional.cross_entropy(logits, tokens, reduction="none")

    def next_token_logits(self, encoded: Encoded, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """Return logits over the vocabulary for the token after each row's prefix (without start token), [B, V]."""
        chains = [prefix_chain([self.architecture.start_id, *prefix]) for prefix in prefixes]
        nodes = [TrieNodes(trie, tuple(range(trie.num_nodes))) for trie in chains]
        states = self._decode(encoded, range(len(prefixes)), nodes)  # [ΣM_i, H]
        last = torch.tensor([trie.num_nodes for trie in chains], device=states.device).cumsum(0) - 1
        return (states[last].to(self.weights.head.dtype) @ self.weights.head.T).float()

    def _score_all(
        self,
        encoded: Encoded,
        rows: Sequence[int],
        readouts: Sequence[Readout],  # of these rows
        dropout: Dropout | None = None,
        *,
        pause: Pause = no_pause,
    ) -> Tensor:
        """Return [B, K] scores of all labels."""
        tries = [readout for readout in readouts if isinstance(readout, LabelTrie)]
        if len(tries) == len(readouts):
            return label_log_probs(
                self._decode_all(encoded, rows, tries, dropout, pause=pause), self.weights.head, tries
            )
        words = [i for i, readout in enumerate(readouts) if isinstance(readout, LabelTrie)]
        # rows that share an encoded text share its states
        soft, pooled = _rows_by_span(encoded, rows, readouts, "soft"), _rows_by_span(encoded, rows, readouts, "pooled")
        numbers, chains = [*(rows[i] for i in words), *soft.values()], [*tries, *[self._first] * len(soft)]
        decoded = self._decode_all(encoded, numbers, chains, dropout, pause=pause)
        width = max(readout.num_labels for readout in readouts)
        scores = encoded.hidden.new_full((len(readouts), width), float("-inf"), dtype=torch.float32)
        num_nodes = sum(trie.num_nodes for trie in tries)
        if tries:
            part = label_log_probs(decoded[:num_nodes], self.weights.head, tries)
            scores[staged(words, scores.device), : part.shape[1]] = part
        states: dict[SingleState, dict[RowSpan, Tensor]] = {
            "soft": dict(zip(soft, decoded[num_nodes:], strict=True)),
            "pooled": {},
        }
        if pooled:
            means = self.states(encoded, "pooled", rows=list(pooled.values()))
            states["pooled"] = dict(zip(pooled, means, strict=True))
        for vectors, alike in _rows_by_readout(readouts).items():
            spans = [encoded.spans[rows[i]] for i in alike]
            of_rows = _joined([torch.stack([states[part][span] for span in spans]) for part in PARTS[vectors.state]])
            # a number is a view, a tensor of them a kernel of its own
            places = alike[0] if len(alike) == 1 else staged(alike, scores.device)
            scores[places, : vectors.num_labels] = vectors.log_probs(of_rows)
        return scores

    def _decode_all(
        self,
        encoded: Encoded,
        rows: Sequence[int],
        tries: Sequence[LabelTrie],
        dropout: Dropout | None,
        *,
        pause: Pause,
    ) -> Tensor:
        """Return the states of all nodes of the rows' tries, in order, [ΣM_i, H]."""
        if not tries:
            return encoded.hidden.new_empty(0, self.width)
        states: list[Tensor] = []
        for parts in passes(tries):
            numbers, nodes = [rows[part.row] for part in parts], [part.nodes for part in parts]
            decoded = self._decode(encoded, numbers, nodes, dropout, pause=pause)
            for part, decoded_part in zip(
                parts, torch.split(decoded, [part.nodes.num_nodes for part in parts]), strict=True
            ):
                states.append(decoded_part[part.nodes.num_nodes - part.num_new :])
        return torch.cat(states)

    def _decode(
        self,
        encoded: Encoded,
        rows: Sequence[int],
        nodes: Sequence[TrieNodes],
        dropout: Dropout | None = None,
        *,
        pause: Pause = no_pause,
    ) -> Tensor:
        """Return the states of the given nodes of the given rows, [ΣM_i, H]."""
        return decode(
            rows_of(encoded.hidden, [encoded.spans[row] for row in rows]),
            nodes,
            weights=self.weights,
            architecture=self.architecture,
            bias=self._tree_bias,
            drop=None if dropout is None else dropout.of([each.num_nodes for each in nodes], rows),
            pause=pause,
        )


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate S states of each row, [R, H] each, to [R, S·H]."""
    return parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts], dim=1)


def _rows_by_span(
    encoded: Encoded, rows: Sequence[int], readouts: Sequence[Readout], state: SingleState
) -> dict[RowSpan, int]:
    """Return one row per encoded text among the rows whose learned readout scores `state`."""
    return {
        encoded.spans[row]: row
        for row, readout in zip(rows, readouts, strict=True)
        if isinstance(readout, LabelVectors) and state in PARTS[readout.state]
    }


def _rows_by_readout(readouts: Sequence[Readout]) -> dict[LabelVectors, list[int]]:
    """Return the indices of the rows of each learned readout."""
    found: dict[LabelVectors, list[int]] = {}
    for index, readout in enumerate(readouts):
        if isinstance(readout, LabelVectors):
            found.setdefault(readout, []).append(index)
    return found
