"""From trie-node states to label log-probabilities: a softmax over each node's children, summed along each path.

Gathers that carry a gradient are `index_select`: the backward of plain indexing adds in the order that threads happen
to run, and a run would not be the same twice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbone.trie import LabelTrie


def label_log_probs(
    nodes: Tensor,  # [D, H], D = ΣM_i, from `decode`
    head: Tensor,  # [V, H]
    tries: Sequence[LabelTrie],  # [B]
) -> Tensor:
    """The distribution of constrained decoding over each row's labels.

    Returns:
        [B, K] log-probabilities, K the largest number of labels; −inf past a row's own. Each row sums to 1.
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
    at = torch.tensor(edge_nodes, device=nodes.device)  # [E]
    logits = (nodes.index_select(0, at) * head[torch.tensor(edge_tokens, device=nodes.device)]).sum(-1)  # [E]
    edges = _log_softmax_by_node(logits, at, num_nodes=nodes.shape[0])  # [E]
    scores = edges.new_zeros(len(tries) * width).index_add(
        0,
        torch.tensor(path_cells, device=nodes.device),
        edges.index_select(0, torch.tensor(path_edges, device=nodes.device)),
    )
    counts = torch.tensor([trie.num_labels for trie in tries], device=nodes.device)
    absent = torch.arange(width, device=nodes.device)[None, :] >= counts[:, None]  # [B, K]
    return scores.view(len(tries), width).masked_fill(absent, float("-inf"))


def _log_softmax_by_node(logits: Tensor, at: Tensor, *, num_nodes: int) -> Tensor:
    """Log-softmax over the edges that leave the same node. logits, at: [E] → [E]."""
    peak = logits.detach().new_full((num_nodes,), float("-inf")).scatter_reduce(0, at, logits.detach(), "amax")
    shifted = logits - peak[at]
    total = torch.zeros_like(peak).index_add(0, at, shifted.exp())  # [D]
    return shifted - total.index_select(0, at).log()
