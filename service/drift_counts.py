"""What is counted of answers for the drift watch: labels and confidences by version, in buckets of five minutes.

Pure. Counters add up over replicas: `("drift", bucket, tenant, task, version, "label:1")`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from sys import intern

from adapters.profile import confidence_bin
from service.classifier import Classification
from service.drift import LiveAnswers
from service.ledger import Key

DRIFT = "drift"
BUCKET_S = 300
WINDOW_BUCKETS = 12
"""Whole ones, an hour; the one that has begun comes on top."""
_LABEL, _CONFIDENCE = "label", "confidence"

Version = tuple[str, str, int]
"""Tenant, task, version."""
Counts = Mapping[str, int]
"""One version's counters, by their last word."""
BucketCounts = Mapping[Version, Counts]


def bucket_of(now: float) -> int:
    """The bucket of a moment, in seconds since 1970."""
    return int(now // BUCKET_S)


def window(now: float) -> range:
    """The buckets of the last hour, the oldest first."""
    return range(bucket_of(now) - WINDOW_BUCKETS, bucket_of(now) + 1)


def began(bucket: int) -> datetime:
    """When a bucket began."""
    return datetime.fromtimestamp(bucket * BUCKET_S, UTC)


def answered_counts(answered: Classification, bucket: int) -> dict[Key, int]:
    """What a request's rows add to the counters."""
    key = (DRIFT, str(bucket), answered.tenant, answered.resolution.task, str(answered.resolution.version))
    labels = Counter(row.label for row in answered.predictions)
    confidences = Counter(confidence_bin(row.score) for row in answered.predictions)
    return {
        # a label's place and not its name, which may hold any character
        **{(*key, f"{_LABEL}:{answered.label_names.index(label)}"): rows for label, rows in labels.items()},
        **{(*key, f"{_CONFIDENCE}:{index}"): rows for index, rows in confidences.items()},
    }


def by_version(counts: Mapping[Key, float]) -> dict[Version, dict[str, int]]:
    """The ledger's counters, of one bucket or several, sorted out."""
    found: dict[Version, dict[str, int]] = defaultdict(dict)
    for (_, _, tenant, task, version, word), rows in counts.items():
        # the same words in every bucket: an hour of 10,000 tasks takes 50 MB with one copy of each, and 110 without
        what, own = intern(word), found[intern(tenant), intern(task), int(version)]
        own[what] = own.get(what, 0) + round(rows)
    return dict(found)


def summed(parts: Iterable[Counts]) -> LiveAnswers:
    """One version's answers over several buckets."""
    labels: Counter[int] = Counter()
    confidences: Counter[int] = Counter()
    for counts in parts:
        for what, rows in counts.items():
            kind, _, index = what.partition(":")
            (labels if kind == _LABEL else confidences)[int(index)] += rows
    return LiveAnswers(labels, confidences)


def num_rows(counts: Counts) -> int:
    """Each row has one label."""
    return sum(rows for what, rows in counts.items() if what.startswith(_LABEL))
