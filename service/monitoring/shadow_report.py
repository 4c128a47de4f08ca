"""The difference between a shadow version's answers and those that callers got: its counters, and the report on them.

Pure. Counters belong to a pair of versions and add up over all replicas: `("shadow", tenant, task, "3:4", what, …)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters import Resolution
from service.counters.store import Key
from service.inference.predictions import Prediction

SHADOW = "shadow"
_AGREED, _FLIP, _SHIFT, _DROPPED, _FAILED = "agreed", "flip", "shift", "dropped", "failed"
_LOST, _GAINED = "lost", "gained"
"""Flips of multi-label rows: a label that only the caller got, or that only the shadow gave."""
_MAX_LISTED = 100
_MANY_LABELS = 300
"""With more labels, a flip is counted by the caller's label alone: pairs of 1,000 labels are a million counters."""
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Flip:
    """Rows that both versions answered with different labels.

    A multi-label row counts once, by one label that only one version gave: the one whose probabilities differ most.
    """

    primary: str
    """The label that the caller got; empty if only the shadow gave the label of a multi-label row."""
    shadow: str
    """`*` for any other label if the task has more than 300; empty if only the caller got the label of a multi-label
    row."""
    rows: int


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """One version compared with another, over all replicas."""

    primary: int
    """The version that answered callers."""
    shadow: int
    rows: int
    """Rows that both versions answered."""
    agreement: float | None
    """Share of these rows with the same label, or the same labels in a multi-label task; null without rows."""
    mean_score_shift: float | None
    """Mean over the rows of the shadow's score for the caller's label minus the caller's score."""
    flips: list[Flip]
    """The most frequent first, at most 100."""
    dropped: int
    """Rows that were not compared: no room or no time."""
    failed: int
    """Rows of requests that the shadow version could not answer."""


def pair_key(tenant: str, primary: Resolution, shadow: Resolution) -> Key:
    """Return the prefix of a pair's counters."""
    return (SHADOW, tenant, primary.task, f"{primary.version}:{shadow.version}")


def compared(given: Sequence[Prediction], shadow: Sequence[Prediction]) -> dict[Key, float]:
    """Return what rows that both versions answered add to a pair's counters, by the rest of the counters' names.

    Args:
        given: the answers that callers got
        shadow: the shadow's answers to the same rows, with the scores of all labels; a missing label counts as 0
    """
    counts: dict[Key, float] = {}
    for ours, theirs in zip(given, shadow, strict=True):
        what = _outcome(ours, theirs)
        counts[what] = counts.get(what, 0) + 1
        counts[_SHIFT,] = counts.get((_SHIFT,), 0.0) + theirs.scores.get(ours.label, 0.0) - ours.score
    return counts


def _outcome(ours: Prediction, theirs: Prediction) -> Key:
    """Return the counter of a row that both versions answered."""
    if ours.labels is None or theirs.labels is None:
        instead = theirs.label if len(theirs.scores) <= _MANY_LABELS else _ANY
        return (_AGREED,) if ours.label == theirs.label else (_FLIP, ours.label, instead)
    differing = sorted(set(ours.labels) ^ set(theirs.labels))
    if not differing:
        return (_AGREED,)
    # a caller's scores may be only the best; the shadow's are all
    label = max(differing, key=lambda name: abs(theirs.scores.get(name, 0.0) - ours.scores.get(name, 0.0)))
    return (_LOST if label in ours.labels else _GAINED, label)


def dropped(rows: int) -> dict[Key, float]:
    """Return what dropped rows add."""
    return {(_DROPPED,): rows}


def failed(rows: int) -> dict[Key, float]:
    """Return what failed rows add."""
    return {(_FAILED,): rows}


def outcomes(counts: Mapping[Key, float]) -> dict[str, float]:
    """Return rows by outcome: agreed, flipped, dropped, failed."""
    rows: dict[str, float] = {}
    for (what, *_), count in counts.items():
        if what != _SHIFT:
            outcome = "flipped" if what in (_FLIP, _LOST, _GAINED) else what
            rows[outcome] = rows.get(outcome, 0) + count
    return rows


def reports(counts: Mapping[Key, float], versions: Sequence[int]) -> list[ShadowReport]:
    """Report on a task's pairs of existing versions, the latest first."""
    pairs: dict[tuple[int, int], dict[Key, float]] = {}
    for (_, _, _, pair, *what), count in counts.items():
        primary, _, shadow = pair.partition(":")
        pairs.setdefault((int(shadow), int(primary)), {})[tuple(what)] = count
    return [
        _report(primary, shadow, sums)
        for (shadow, primary), sums in sorted(pairs.items(), reverse=True)
        if {primary, shadow} <= set(versions)
    ]


def _report(primary: int, shadow: int, sums: Mapping[Key, float]) -> ShadowReport:
    flips = [flip for what, count in sums.items() if (flip := _flip(what, round(count))) is not None]
    agreed = sums.get((_AGREED,), 0.0)
    rows = agreed + sum(flip.rows for flip in flips)
    return ShadowReport(
        primary=primary,
        shadow=shadow,
        rows=round(rows),
        agreement=agreed / rows if rows else None,
        mean_score_shift=sums.get((_SHIFT,), 0.0) / rows if rows else None,
        flips=sorted(flips, key=lambda flip: (-flip.rows, flip.primary, flip.shadow))[:_MAX_LISTED],
        dropped=round(sums.get((_DROPPED,), 0.0)),
        failed=round(sums.get((_FAILED,), 0.0)),
    )


def _flip(what: Key, rows: int) -> Flip | None:
    match what:
        case (kind, primary, shadow) if kind == _FLIP:
            return Flip(primary, shadow, rows)
        case (kind, label) if kind == _LOST:
            return Flip(label, "", rows)
        case (kind, label) if kind == _GAINED:
            return Flip("", label, rows)
    return None
