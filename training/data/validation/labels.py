"""Checks of labels: unknown names, probable typos, imbalance, and words that the backbone confuses."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations

from adapters.task import Kind
from training.data.validation.findings import Finding, finding
from training.data.validation.pieces import ModelView
from training.data.validation.rows import Sheet
from training.task.task_file import TaskFile

_NEAR = 0.75
"""The minimum similarity (`difflib`) of a label to the one that may be meant."""
_TYPO_SHARE = 0.05
"""A label with at most this share of a similar one's rows may be a typo of it. More could be intended, as for
`acceptable` and `unacceptable`."""
_IMBALANCE = 10
"""The ratio of the most common to the rarest label from which imbalance is reported."""


def unknown_labels(sheet: Sheet, task: TaskFile) -> list[Finding]:
    """Find rows with a label that the task does not have, and the label that may be meant."""
    known = list(dict.fromkeys((*task.data.label_values, *task.spec.label_names)))
    places = []
    for place, cell in sorted(sheet.unknown_labels, key=lambda row: -len(near_names(row[1], known))):
        meant = near_names(cell, known)
        other = meant[0] if meant else ""
        places.append(f"{place}: {_spelt(cell, other)}" + (f", did you mean {_spelt(other, cell)}?" if meant else ""))
    return finding("error", "unknown-label", f"{sheet.role}: labels that the task does not have", places)


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Return the known names that a name may be a typo of, nearest first.

    Case, outer spaces and the Unicode form are ignored.
    """
    folded = {_folded(each): each for each in reversed(known)}
    return [folded[each] for each in difflib.get_close_matches(_folded(name), list(folded), cutoff=_NEAR)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().casefold())


def _spelt(name: str, other: str) -> str:
    """Quote a name, escaped if it looks like another one in a different Unicode form."""
    twins = name != other and unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
    return ascii(name) if twins else repr(name)


def label_counts(sheet: Sheet, task: TaskFile) -> dict[str, int]:
    """Count the rows per label, in the task's order."""
    counts = Counter(label for row in sheet.examples for label in row.example.labels)
    return {name: counts[index] for index, name in enumerate(task.spec.label_names)}


def typo_labels(counts: dict[str, int]) -> list[Finding]:
    """Find labels of the task that look like a typo of another one."""
    places = []
    for name, rows in counts.items():
        for other in near_names(name, [each for each in counts if each != name])[:1]:
            same = _folded(name) == _folded(other)
            if rows and (rows <= _TYPO_SHARE * counts[other] or (same and rows <= counts[other])):
                places.append(
                    f"{_spelt(name, other)} ({rows} rows) may be {_spelt(other, name)} ({counts[other]} rows)"
                )
    return finding("warning", "label-typo", "labels that may be the same", places)


def uneven_labels(counts: dict[str, int], *, kind: Kind, num_rows: int) -> list[Finding]:
    """Find labels without training rows, labels with far fewer rows than others, and labels that every row has."""
    is_ordinal = kind == "ordinal"
    without = [repr(name) for name, rows in counts.items() if not rows]
    present = {name: rows for name, rows in counts.items() if rows}
    found = [] if is_ordinal else finding("warning", "label-without-rows", "labels without training rows", without)
    if present and not is_ordinal:
        common, rare = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[common] >= _IMBALANCE * present[rare]:
            remedies = "--class-weights" if kind == "multi_label" else "--class-weights, --sampling balanced,"
            message = (
                f"{common!r} has {present[common]} training rows ({100 * present[common] / num_rows:.0f} %), "
                f"{rare!r} {present[rare]}: see {remedies} and metrics: [macro_f1]"
            )
            few = [f"{name!r}: {rows}" for name, rows in present.items() if rows * _IMBALANCE <= present[common]]
            found += finding("warning", "imbalance", message, few)
    if kind == "multi_label":
        always = [repr(name) for name, rows in present.items() if rows == num_rows]
        found += finding("warning", "label-in-every-row", "labels that every training row has", always)
    return found


def few_labels(sheet: Sheet) -> list[Finding]:
    """Find a multi-label file most of whose rows have no label: blank cells are read as rows that no label fits."""
    places = [row.place for row in sheet.examples if not row.example.labels]
    if 2 * len(places) <= len(sheet.examples):
        return []
    share = f"{100 * len(places) / len(sheet.examples):.0f} %"
    return finding("warning", "no-label", f"{sheet.role}: {share} of the rows have no label", places)


def label_word_findings(words: Sequence[str], view: ModelView, *, are_scored: bool) -> list[Finding]:
    """Find label words that share their first tokens, or all of them, or that the vocabulary cannot spell.

    Args:
        are_scored: whether the words may be the readout; those of multi-label tasks only start the label vectors
    """
    refused = view.refusal()
    if refused is not None:
        return finding("error", "label-words", "the backbone cannot distinguish the label words", [refused])
    if not are_scored:
        return []
    spelt = view.pieces(words)
    unspelt = [repr(word) for word, ids in zip(words, spelt, strict=True) if view.unknown_id in ids]
    firsts: dict[int, list[str]] = {}
    for word, ids in zip(words, spelt, strict=True):
        firsts.setdefault(ids[0], []).append(word)
    shared = [", ".join(map(repr, group[:5])) + ", …" * (len(group) > 5) for group in firsts.values() if len(group) > 1]
    prefixes = [f"{words[i]!r} is a prefix of {words[j]!r}" for i, j in _prefixes(spelt)]
    message = "label words share their first token, so scoring them takes more than one step"
    return [
        *finding("warning", "unread-label", "label words with characters that the vocabulary lacks", unspelt),
        *finding("warning", "shared-first-piece", message, shared),
        *finding("warning", "prefix-label", "the words of a label are a prefix of another's", prefixes),
    ]


def _prefixes(spelt: Sequence[Sequence[int]]) -> Iterable[tuple[int, int]]:
    for (i, ours), (j, theirs) in permutations(enumerate(spelt), 2):
        if len(ours) < len(theirs) and list(theirs[: len(ours)]) == list(ours):
            yield i, j
