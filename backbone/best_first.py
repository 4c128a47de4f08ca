"""Best-first search over the trie: the best k labels without scoring all of them, for several rows in lockstep.

Probability only falls along a path, so no label below a node that is less likely than the k-th best label can be among
the best k. The result is exact and usually needs a few nodes per row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone.decoder import TrieNodes
from backbone.scoring import edge_log_probs
from backbone.trie import LabelTrie

Decode = Callable[[Sequence[int], Sequence[TrieNodes]], Tensor]
"""Maps row numbers and the nodes of each row to the nodes' states, concatenated, [ΣM_i, H]."""


@dataclass(slots=True)
class _Search:
    """Search of one row."""

    trie: LabelTrie
    top_k: int
    scores: NDArray[np.float32] = field(init=False)  # [K], −inf if unknown
    frontier: dict[int, float] = field(init=False)
    """Unexpanded nodes: node → log-probability of reaching it."""

    def __post_init__(self) -> None:
        self.scores = np.full(self.trie.num_labels, -np.inf, dtype=np.float32)
        # the first choice, which all labels share
        self.frontier = {self.trie.edge_nodes[0]: 0.0}

    def next_nodes(self) -> list[int]:
        """Return the nodes to expand next, best first: at most k, each with a possible label among the best k."""
        worst = np.partition(self.scores, -self.top_k)[-self.top_k]
        candidates = [node for node, reached in self.frontier.items() if reached > worst]
        return sorted(candidates, key=lambda node: -self.frontier[node])[: self.top_k]

    def expand(self, node: int, edges: Sequence[float]) -> None:
        """Record the log-probabilities of the edges that leave a node."""
        reached = self.frontier.pop(node)
        for edge, log_prob in zip(self.trie.edges_of(node), edges, strict=True):
            label, target = self.trie.edge_labels[edge], self.trie.edge_targets[edge]
            if label >= 0:
                self.scores[label] = reached + log_prob
            else:
                self.frontier[target] = reached + log_prob


def best_first(decode: Decode, head: Tensor, tries: Sequence[LabelTrie], top_k: Sequence[int]) -> Tensor:
    """Return exact log-probabilities of at least each row's best `top_k` labels, −inf for labels not needed.

    Args:
        decode: called once per round with the unfinished rows
        head: [V, H]
        tries, top_k: [B]

    Returns:
        [B, K], K the largest number of labels
    """
    searches = [_Search(trie, min(k, trie.num_labels)) for trie, k in zip(tries, top_k, strict=True)]
    while wanted := {row: nodes for row, search in enumerate(searches) if (nodes := search.next_nodes())}:
        rows = [
            TrieNodes(searches[row].trie, searches[row].trie.with_ancestors(nodes)) for row, nodes in wanted.items()
        ]
        _expand(decode(list(wanted), rows), head, [searches[row] for row in wanted], rows, list(wanted.values()))
    width = max(trie.num_labels for trie in tries)
    scores = np.full((len(tries), width), -np.inf, dtype=np.float32)
    for row, search in zip(scores, searches, strict=True):
        row[: len(search.scores)] = search.scores
    return torch.from_numpy(scores).to(head.device)


def _expand(
    states: Tensor,  # [D, H]
    head: Tensor,
    searches: Sequence[_Search],
    rows: Sequence[TrieNodes],
    wanted: Sequence[Sequence[int]],
) -> None:
    edge_nodes: list[int] = []
    edge_tokens: list[int] = []
    first = 0
    for row, nodes in zip(rows, wanted, strict=True):
        places = {node: first + i for i, node in enumerate(row.nodes)}
        for node in nodes:
            edges = row.trie.edges_of(node)
            edge_nodes += [places[node]] * len(edges)
            edge_tokens += row.trie.edge_tokens[edges.start : edges.stop]
        first += row.num_nodes
    log_probs = iter(edge_log_probs(states, head, edge_nodes, edge_tokens).tolist())
    for search, nodes in zip(searches, wanted, strict=True):
        for node in nodes:
            search.expand(node, [next(log_probs) for _ in search.trie.edges_of(node)])
