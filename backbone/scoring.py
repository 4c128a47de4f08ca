"""Label log-probabilities from trie-node states: a softmax over each node's children, summed along each path.

Gathers with a gradient use `index_select`: the backward of plain indexing adds in an order that depends on threads, so
that runs would not be reproducible.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbone.staging import staged_together
from backbone.trie import LabelTrie

_PIECE_EDGES = 8_192
"""Edges whose vectors are in memory at once, 17 MB at a width of 512."""


def label_log_probs(
    nodes: Tensor,  # [D, H], D = ΣM_i: every node of every trie
    head: Tensor,  # [V, H]
    tries: Sequence[LabelTrie],  # [B]
) -> Tensor:
    """Return the distribution of constrained decoding over each row's labels.

    Returns:
        [B, K] log-probabilities, K the largest number of labels; −inf beyond a row's labels. Probabilities sum to 1.
    """
    edge_nodes: list[int] = []
    edge_tokens: list[int] = []
    path_cells: list[int] = []
    path_edges: list[int] = []
    width = max(trie.num_labels for trie in tries)
    first_node = 0
    for row, trie in enumerate(tries):
        first_edge = len(edge_nodes)
        edge_nodes.extend(first_node + node for node in trie.edge_nodes)
        edge_tokens.extend(trie.edge_tokens)
        path_cells.extend(row * width + label for label in trie.path_labels)
        path_edges.extend(first_edge + edge for edge in trie.path_edges)
        first_node += trie.num_nodes
    edges = edge_log_probs(nodes, head, edge_nodes, edge_tokens)  # [E]
    counts_of_labels = [trie.num_labels for trie in tries]
    cells, paths, counts = staged_together([path_cells, path_edges, counts_of_labels], nodes.device)
    scores = edges.new_zeros(len(tries) * width).index_add(0, cells, edges.index_select(0, paths))
    absent = torch.arange(width, device=nodes.device)[None, :] >= counts[:, None]  # [B, K]
    return scores.view(len(tries), width).masked_fill(absent, float("-inf"))


def edge_log_probs(nodes: Tensor, head: Tensor, edge_nodes: Sequence[int], edge_tokens: Sequence[int]) -> Tensor:
    """Return the log-softmax of each edge among those that leave the same node, [E].

    Args:
        nodes: [D, H] states
        head: [V, H]; only the rows of `edge_tokens` are read
        edge_nodes, edge_tokens: [E], the row of `nodes` that an edge leaves, and the edge's token
    """
    at, tokens = staged_together([edge_nodes, edge_tokens], nodes.device)  # [E] each
    logits = torch.cat(
        [
            (nodes.index_select(0, some) * head[some_tokens]).sum(-1, dtype=torch.float32)
            for some, some_tokens in zip(torch.split(at, _PIECE_EDGES), torch.split(tokens, _PIECE_EDGES), strict=True)
        ]
    )  # [E]
    peak = logits.detach().new_full((len(nodes),), float("-inf")).scatter_reduce(0, at, logits.detach(), "amax")
    shifted = logits - peak[at]
    total = torch.zeros_like(peak).index_add(0, at, shifted.exp())  # [D]
    return shifted - total.index_select(0, at).log()
