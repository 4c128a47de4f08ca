"""How whole tries are decoded within bounded memory: in parts of some hundred nodes, parts together in passes."""

from collections.abc import Sequence
from dataclasses import dataclass

from backbone.decoder import TrieNodes
from backbone.trie import LabelTrie

_PART_NODES = 256
_PASS_NODES = 4_096


@dataclass(frozen=True, slots=True)
class Part:
    """Some nodes of one row's trie with their ancestors; the new ones stand last."""

    row: int
    nodes: TrieNodes
    num_new: int


def passes(tries: Sequence[LabelTrie]) -> list[list[Part]]:
    """Every node of every trie as new exactly once, in order. A trie's parts do not depend on its neighbours."""
    found: list[list[Part]] = [[]]
    size = 0
    for part in (part for row, trie in enumerate(tries) for part in _parts(row, trie)):
        if size and size + part.nodes.num_nodes > _PASS_NODES:
            found.append([])
            size = 0
        found[-1].append(part)
        size += part.nodes.num_nodes
    return found


def _parts(row: int, trie: LabelTrie) -> list[Part]:
    if trie.num_nodes <= _PART_NODES:
        return [Part(row, TrieNodes(trie, tuple(range(trie.num_nodes))), trie.num_nodes)]
    parts = []
    for start in range(0, trie.num_nodes, _PART_NODES):
        new = range(start, min(start + _PART_NODES, trie.num_nodes))
        parts.append(Part(row, TrieNodes(trie, trie.with_ancestors(new)), len(new)))
    return parts
