"""Best-first search over the trie: the best k labels without scoring all of them, for several rows in lockstep.

Probability only falls along a path, so no label below a node that is less likely than the k-th best label can be among
the best k. The result is exact and usually needs a few nodes per row. Scores that hardly differ need all nodes, and
their ancestors again in each round: a search ends at its budget, and the row is then scored over its whole trie.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone.decoder import TrieNodes, in_passes
from backbone.scoring import edge_log_probs
from backbone.trie import PART_NODES, LabelTrie

Decode = Callable[[Sequence[int], Sequence[TrieNodes]], Tensor]
"""Maps row numbers and the nodes of each row to the nodes' states, concatenated, [ΣM_i, H]."""


@dataclass(frozen=True, slots=True)
class Found:
    """Result of searches."""

    scores: Tensor
    """[B, K], K the largest number of labels; −inf for labels that were not needed."""
    exhausted: list[int]
    """Rows whose search reached its budget before its end: their scores are incomplete."""


@dataclass(slots=True)
class _Search:
    """Search of one row."""

    trie: LabelTrie
    top_k: int
    budget: int
    """Nodes that may still be decoded."""
    exhausted: bool = field(init=False, default=False)
    scores: NDArray[np.float32] = field(init=False)  # [K], −inf if unknown
    frontier: dict[int, float] = field(init=False)
    """Unexpanded nodes: node → log-probability of reaching it."""
    wanted: list[int] = field(init=False, default_factory=list)
    """Nodes to expand in this round, best first: at most k, each with a possible label among the best k."""

    def __post_init__(self) -> None:
        self.scores = np.full(self.trie.num_labels, -np.inf, dtype=np.float32)
        # the first choice, which all labels share
        self.frontier = {self.trie.edge_nodes[0]: 0.0}

    def next_nodes(self) -> TrieNodes | None:
        """Return the nodes to decode next and, in `wanted`, those to expand; None at the end or at the budget."""
        worst = np.partition(self.scores, -self.top_k)[-self.top_k]
        candidates = [node for node, reached in self.frontier.items() if reached > worst]
        best = sorted(candidates, key=lambda node: -self.frontier[node])[: min(self.top_k, PART_NODES)]
        if not best:
            return None
        nodes = self.trie.with_ancestors(best)
        self.exhausted = len(nodes) > self.budget
        self.budget -= len(nodes)
        self.wanted = best
        return None if self.exhausted else TrieNodes(self.trie, nodes)

    def expand(self, node: int, edges: Sequence[float]) -> None:
        """Record the log-probabilities of the edges that leave a node."""
        reached = self.frontier.pop(node)
        for edge, log_prob in zip(self.trie.edges_of(node), edges, strict=True):
            label, target = self.trie.edge_labels[edge], self.trie.edge_targets[edge]
            if label >= 0:
                self.scores[label] = reached + log_prob
            else:
                self.frontier[target] = reached + log_prob


def best_first(
    decode: Decode,
    head: Tensor,
    tries: Sequence[LabelTrie],
    top_k: Sequence[int],
    budgets: Sequence[int],
) -> Found:
    """Return exact log-probabilities of at least each row's best `top_k` labels.

    Args:
        decode: called at least once per round, with the unfinished rows and the nodes of one pass (`in_passes`)
        head: [V, H]
        tries, top_k, budgets: [B]; a row decodes at most as many nodes as its budget
    """
    searches = [
        _Search(trie, min(k, trie.num_labels), budget) for trie, k, budget in zip(tries, top_k, budgets, strict=True)
    ]
    unfinished: Sequence[int] = range(len(searches))
    while wanted := {row: nodes for row in unfinished if (nodes := searches[row].next_nodes())}:
        for rows in in_passes(wanted, lambda row: wanted[row].num_nodes):
            decoded = [wanted[row] for row in rows]
            _expand(decode(rows, decoded), head, [searches[row] for row in rows], decoded)
        unfinished = list(wanted)
    width = max(trie.num_labels for trie in tries)
    scores = np.full((len(tries), width), -np.inf, dtype=np.float32)
    for row, search in zip(scores, searches, strict=True):
        row[: len(search.scores)] = search.scores
    exhausted = [row for row, search in enumerate(searches) if search.exhausted]
    return Found(torch.from_numpy(scores).to(head.device), exhausted)


def _expand(
    states: Tensor,  # [D, H]
    head: Tensor,
    searches: Sequence[_Search],
    rows: Sequence[TrieNodes],
) -> None:
    edge_nodes: list[int] = []
    edge_tokens: list[int] = []
    first = 0
    for search, row in zip(searches, rows, strict=True):
        places = {node: first + i for i, node in enumerate(row.nodes)}
        for node in search.wanted:
            edges = row.trie.edges_of(node)
            edge_nodes += [places[node]] * len(edges)
            edge_tokens += row.trie.edge_tokens[edges.start : edges.stop]
        first += row.num_nodes
    log_probs = iter(edge_log_probs(states, head, edge_nodes, edge_tokens).tolist())
    for search in searches:
        for node in search.wanted:
            search.expand(node, [next(log_probs) for _ in search.trie.edges_of(node)])
