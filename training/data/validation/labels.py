"""Faults of labels: unknown ones, ones that look like another's typo, rare ones, and words that are spelt alike."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations

from training.data.validation.findings import Finding, finding
from training.data.validation.rows import Sheet
from training.task.task_file import TaskFile

_NEAR = 0.75
"""The least similarity (`difflib`) of a label to the one that may be meant."""
_TYPO_SHARE = 0.05
"""A label with so small a share of a near one's rows may be its typo; `acceptable` and `unacceptable` are near too."""
_IMBALANCE = 10
"""How many times the rows of the rarest label the commonest must have to be told of."""


def unknown_labels(sheet: Sheet, task: TaskFile) -> list[Finding]:
    """Rows whose label is none of the task's, with the one that may be meant."""
    known = list(dict.fromkeys((*task.data.label_values, *task.spec.label_names)))
    places = []
    for place, cell in sorted(sheet.unknown_labels, key=lambda row: -len(near_names(row[1], known))):
        meant = near_names(cell, known)
        places.append(f"{place}: {cell!r}" + (f", did you mean {meant[0]!r}?" if meant else ""))
    return finding("error", "unknown-label", f"{sheet.role}: labels that the task does not have", places)


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """The known names that a name may be a typo of, the nearest first; case and outer spaces are no difference."""
    folded = {each.strip().casefold(): each for each in reversed(known)}
    return [folded[each] for each in difflib.get_close_matches(name.strip().casefold(), list(folded), cutoff=_NEAR)]


def label_counts(sheet: Sheet, task: TaskFile) -> dict[str, int]:
    """Rows a label, in the task's order."""
    counts = Counter(row.example.label for row in sheet.examples)
    return {name: counts[index] for index, name in enumerate(task.spec.label_names)}


def typo_labels(counts: dict[str, int]) -> list[Finding]:
    """Labels of the task that look like a typo of another."""
    places = []
    for name, rows in counts.items():
        for other in near_names(name, [each for each in counts if each != name])[:1]:
            same = name.strip().casefold() == other.strip().casefold()
            if rows and (rows <= _TYPO_SHARE * counts[other] or (same and rows <= counts[other])):
                places.append(f"{name!r} ({rows} rows) may be {other!r} ({counts[other]} rows)")
    return finding("warning", "label-typo", "labels that may be one and the same", places)


def uneven_labels(counts: dict[str, int], *, is_ordinal: bool) -> list[Finding]:
    """Labels without training rows, and ones that have far fewer than others."""
    without = [repr(name) for name, rows in counts.items() if not rows]
    present = {name: rows for name, rows in counts.items() if rows}
    found = [] if is_ordinal else finding("warning", "label-without-rows", "labels with no training row", without)
    if present and not is_ordinal:
        common, rare = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[common] >= _IMBALANCE * present[rare]:
            share = present[common] / sum(present.values())
            message = (
                f"{common!r} has {present[common]} training rows ({100 * share:.0f} %), {rare!r} {present[rare]}: "
                "see --class-weights, --sampling balanced, and metrics: [macro_f1]"
            )
            few = [f"{name!r}: {rows}" for name, rows in present.items() if rows * _IMBALANCE <= present[common]]
            found += finding("warning", "imbalance", message, few)
    return found


def label_word_findings(
    words: Sequence[str], pieces: Callable[[Sequence[str]], list[list[int]]], refusal: Callable[[], str | None]
) -> list[Finding]:
    """Words that the backbone spells alike, at their beginning or all along.

    Args:
        pieces: token ids of texts
        refusal: why no label trie can be built of the words, None where one can
    """
    refused = refusal()
    if refused is not None:
        return finding("error", "label-words", "the backbone cannot tell the label words apart", [refused])
    spelt = pieces(words)
    firsts: dict[int, list[str]] = {}
    for word, ids in zip(words, spelt, strict=True):
        firsts.setdefault(ids[0], []).append(word)
    shared = [", ".join(map(repr, group[:5])) + ", …" * (len(group) > 5) for group in firsts.values() if len(group) > 1]
    prefixes = [f"{words[i]!r} begins {words[j]!r}" for i, j in _prefixes(spelt)]
    message = "label words share their first piece: more than one step scores them"
    return [
        *finding("warning", "shared-first-piece", message, shared),
        *finding("warning", "prefix-label", "a label's words are the beginning of another's", prefixes),
    ]


def _prefixes(spelt: Sequence[Sequence[int]]) -> Iterable[tuple[int, int]]:
    for (i, ours), (j, theirs) in permutations(enumerate(spelt), 2):
        if len(ours) < len(theirs) and list(theirs[: len(ours)]) == list(ours):
            yield i, j
