"""Label trie: a task's label words as token sequences that share prefixes, for constrained decoding.

A node is a decoder input whose output is needed; an edge is a child token at a node with a choice. `log p(label)` is
the sum of its edges' log-probabilities, each a softmax over the children of one node. An edge without a sibling has
probability 1 and is left out.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from backbone.errors import InvalidLabels

MAX_LABELS = 1_000
MAX_LABEL_TOKENS = 32
MAX_TRIE_NODES = 4_096
SMALL_TRIE = 4
"""Largest trie that is always decoded as a whole: a second pass would cost more."""
PART_NODES = 256
"""Number of nodes that are decoded together, with their ancestors, when a whole trie is scored."""
EDGES_PER_TOKEN = 128
"""Edges whose scores take about as long as a token in the encoder."""
_INT_BYTES = sys.getsizeof(1)
_MIN_BUDGET = 64
_BUDGET_PER_LABEL = 8
_MAX_SHARE = 4
"""A search pays for at most 1 ÷ this of the labels."""


@dataclass(slots=True)
class _Branch:
    children: dict[int, "_Branch"] = field(default_factory=dict)
    label: int | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LabelTrie:
    """Nodes that the decoder must evaluate, and edges whose scores add up to each label's.

    Nodes precede their descendants; node 0 is the decoder's start token.
    """

    num_labels: int
    node_tokens: tuple[int, ...]  # [M]
    node_parents: tuple[int, ...]  # [M], −1 for the root
    node_depths: tuple[int, ...]  # [M]
    edge_nodes: tuple[int, ...]  # [E], the node that an edge leaves
    edge_tokens: tuple[int, ...]  # [E], the edge's token
    path_labels: tuple[int, ...]  # [Q], with path_edges: edge path_edges[i] is on the path of path_labels[i]
    path_edges: tuple[int, ...]  # [Q]
    edge_labels: tuple[int, ...]  # [E], the label if the edge is its last choice, else −1
    edge_targets: tuple[int, ...]  # [E], the node of the next choice, else −1

    num_decoded: int = field(init=False)
    """How many nodes are decoded to score the whole trie: a node's ancestors again in each part."""

    def __post_init__(self) -> None:
        starts = range(0, self.num_nodes, PART_NODES)
        parts = (range(start, min(start + PART_NODES, self.num_nodes)) for start in starts)
        decoded = self.num_nodes if len(starts) == 1 else sum(len(self.with_ancestors(part)) for part in parts)
        object.__setattr__(self, "num_decoded", decoded)

    @property
    def num_bytes(self) -> int:
        """Upper bound on the size in host memory: each number as an object of its own."""
        numbers = (
            *(self.node_tokens, self.node_parents, self.node_depths, self.edge_nodes, self.edge_tokens),
            *(self.path_labels, self.path_edges, self.edge_labels, self.edge_targets),
        )
        return sum(sys.getsizeof(each) + _INT_BYTES * len(each) for each in numbers)

    @property
    def num_nodes(self) -> int:
        return len(self.node_tokens)

    def search_budget(self, top_k: int | None) -> int | None:
        """Return how many nodes a search for the best `top_k` labels may decode, None if all labels are scored."""
        if top_k is None or self.num_nodes <= SMALL_TRIE or top_k * _MAX_SHARE > self.num_labels:
            return None
        return min(self.num_decoded, _MIN_BUDGET + _BUDGET_PER_LABEL * top_k)

    def max_decoded(self, top_k: int | None) -> int:
        """Return an upper bound on the nodes that are decoded for a row's labels before a search is exhausted."""
        return self.search_budget(top_k) or self.num_decoded

    def cost(self, top_k: int | None) -> int:
        """Return an upper bound on the cost of a row's labels in tokens: decoded nodes, and their edges."""
        return self.max_decoded(top_k) + len(self.edge_nodes) // EDGES_PER_TOKEN

    @property
    def needs_one_step(self) -> bool:
        """Whether all labels differ in their first token, so that one decoder position scores them."""
        return self.num_nodes == 1

    def edges_of(self, node: int) -> range:
        """Return the edges that leave a node; empty without a choice."""
        return range(bisect_left(self.edge_nodes, node), bisect_right(self.edge_nodes, node))

    def with_ancestors(self, nodes: Iterable[int]) -> tuple[int, ...]:
        """Return the nodes and all their ancestors, ascending."""
        found: set[int] = set()
        for start in nodes:
            node = start
            while node >= 0 and node not in found:
                found.add(node)
                node = self.node_parents[node]
        return tuple(sorted(found))

    def of_label(self, label: int) -> "LabelTrie":
        """Return the nodes on one label's path and their choices; the label is label 0 of the result.

        Training needs only the correct label: for Banking77's 77 labels a few nodes instead of all.
        """
        ways = [edge for at, edge in zip(self.path_labels, self.path_edges, strict=True) if at == label]
        choices = {self.edge_nodes[edge] for edge in ways}
        nodes = self.with_ancestors(choices)
        place = {node: i for i, node in enumerate(nodes)}
        edges = [edge for node in nodes if node in choices for edge in self.edges_of(node)]
        path_edges = tuple(edges.index(edge) for edge in ways)
        return LabelTrie(
            num_labels=1,
            node_tokens=tuple(self.node_tokens[node] for node in nodes),
            node_parents=tuple(place.get(self.node_parents[node], -1) for node in nodes),
            node_depths=tuple(self.node_depths[node] for node in nodes),
            edge_nodes=tuple(place[self.edge_nodes[edge]] for edge in edges),
            edge_tokens=tuple(self.edge_tokens[edge] for edge in edges),
            path_labels=(0,) * len(path_edges),
            path_edges=path_edges,
            edge_labels=tuple(0 if self.edge_labels[edge] == label else -1 for edge in edges),
            edge_targets=tuple(place.get(self.edge_targets[edge], -1) for edge in edges),
        )


def build_trie(labels: Sequence[Sequence[int]], *, start_id: int, eos_id: int) -> LabelTrie:
    """Build the trie of label words, given as token ids without end-of-sequence in label order.

    Raises:
        InvalidLabels: fewer than two labels, an empty label, two with the same tokens, or a limit exceeded.
    """
    _check(labels, eos_id)
    root = _Branch()
    num_nodes = 1
    for index, tokens in enumerate(labels):
        branch = root
        for token in (*tokens, eos_id):
            num_nodes += token not in branch.children
            branch = branch.children.setdefault(token, _Branch())
        if branch.label is not None:
            raise InvalidLabels("label words", index, f"tokens that differ from those of label {branch.label}")
        branch.label = index
    if num_nodes > MAX_TRIE_NODES:
        raise InvalidLabels("label trie nodes", num_nodes, f"at most {MAX_TRIE_NODES}")
    return _flatten(root, num_labels=len(labels), start_id=start_id)


def prefix_chain(tokens: Sequence[int]) -> LabelTrie:
    """Return a chain of tokens without choices: decoder inputs for free generation."""
    count = len(tokens)
    return LabelTrie(
        num_labels=0,
        node_tokens=tuple(tokens),
        node_parents=tuple(range(-1, count - 1)),
        node_depths=tuple(range(count)),
        edge_nodes=(),
        edge_tokens=(),
        path_labels=(),
        path_edges=(),
        edge_labels=(),
        edge_targets=(),
    )


def chain(tokens: Sequence[int], *, start_id: int, eos_id: int) -> LabelTrie:
    """Return one target sequence (without end-of-sequence) as a trie without choices, for teacher forcing.

    Its nodes are start, y_1 … y_T; each node's edge is the next token.
    """
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


def _check(labels: Sequence[Sequence[int]], eos_id: int) -> None:
    if not 2 <= len(labels) <= MAX_LABELS:
        raise InvalidLabels("number of labels", len(labels), f"2 to {MAX_LABELS}")
    for index, tokens in enumerate(labels):
        if not 1 <= len(tokens) <= MAX_LABEL_TOKENS:
            raise InvalidLabels(f"tokens of label {index}", len(tokens), f"1 to {MAX_LABEL_TOKENS}")
        if eos_id in tokens:
            raise InvalidLabels(f"tokens of label {index}", list(tokens), "no end-of-sequence token inside")


def _flatten(root: _Branch, *, num_labels: int, start_id: int) -> LabelTrie:
    """Flatten the branches depth first; keep a node only if it or a descendant has a choice."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    edges: list[tuple[int, int]] = []
    paths: list[tuple[int, int]] = []
    stack: list[tuple[_Branch, int, int, int, tuple[int, ...]]] = [(root, start_id, -1, 0, ())]
    while stack:
        branch, token, parent, depth, path = stack.pop()
        end = _end_without_choice(branch)
        if end is not None:
            paths.extend((end, edge) for edge in path)
            continue
        node = len(tokens)
        tokens.append(token)
        parents.append(parent)
        depths.append(depth)
        for child_token, child in branch.children.items():
            child_path = path
            if len(branch.children) > 1:
                child_path = (*path, len(edges))
                edges.append((node, child_token))
            stack.append((child, child_token, node, depth + 1, child_path))
    paths.sort()
    return LabelTrie(
        num_labels=num_labels,
        node_tokens=tuple(tokens),
        node_parents=tuple(parents),
        node_depths=tuple(depths),
        edge_nodes=tuple(node for node, _ in edges),
        edge_tokens=tuple(token for _, token in edges),
        path_labels=tuple(label for label, _ in paths),
        path_edges=tuple(edge for _, edge in paths),
        edge_labels=_edge_labels(paths, len(edges)),
        edge_targets=_edge_targets(paths, edges),
    )


def _edge_labels(paths: Sequence[tuple[int, int]], num_edges: int) -> tuple[int, ...]:
    # paths are in order, so that the last edge of each label remains
    last = dict(paths)
    labels = [-1] * num_edges
    for label, edge in last.items():
        labels[edge] = label
    return tuple(labels)


def _edge_targets(paths: Sequence[tuple[int, int]], edges: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    targets = [-1] * len(edges)
    for (label, edge), (next_label, next_edge) in pairwise(paths):
        if label == next_label:
            targets[edge] = edges[next_edge][0]
    return tuple(targets)


def _end_without_choice(branch: _Branch) -> int | None:
    """Return the label that a branch without forks leads to, else None."""
    while len(branch.children) == 1:
        branch = next(iter(branch.children.values()))
    return branch.label
