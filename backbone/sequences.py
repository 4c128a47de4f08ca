"""One target sequence as a trie without a fork: how likely the whole vocabulary makes it, teacher-forced."""

from collections.abc import Sequence

from backbone.trie import LabelTrie


def chain(tokens: Sequence[int], *, start_id: int, eos_id: int) -> LabelTrie:
    """The nodes start, y_1 … y_T of label words given without end-of-sequence; each one's edge is the next token."""
    targets = (*tokens, eos_id)
    size = len(targets)
    return LabelTrie(
        num_labels=1,
        node_tokens=(start_id, *tokens),
        node_parents=tuple(range(-1, size - 1)),
        node_depths=tuple(range(size)),
        edge_nodes=tuple(range(size)),
        edge_tokens=targets,
        path_labels=(0,) * size,
        path_edges=tuple(range(size)),
        edge_labels=(*(-1 for _ in tokens), 0),
        edge_targets=(*range(1, size), -1),
    )
