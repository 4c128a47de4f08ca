"""The drift monitor: counts each version's answers, and compares them every minute with those on its held-out rows.

Labels and confidences are counted by version in buckets of five minutes; the label of a multi-label row is its most
probable one. The counters add up over all replicas:
`("drift", bucket, tenant, task, version, "label:1")`. `drift.py` defines the comparison.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern

import structlog

from adapters import InvalidAdapter, NotFound, Registry
from adapters.files import from_files
from adapters.profile import ValidationProfile, confidence_bin
from service.catalog.catalog import Catalog
from service.counters.buffer import CounterBuffer
from service.counters.store import Key
from service.inference.predictions import Classification
from service.monitoring.drift import SHIFTED, DriftReport, LiveAnswers, compare, min_rows
from service.periodic import PeriodicTask

DRIFT = "drift"
BUCKET_S = 300
WINDOW_BUCKETS = 12
"""Complete buckets, an hour; the current one is added."""
_LABEL, _CONFIDENCE = "label", "confidence"

Version = tuple[str, str, int]
"""Tenant, task, version."""
Counts = Mapping[str, int]
"""One version's counters, by the last part of their names."""
BucketCounts = Mapping[Version, Counts]


def bucket_of(now: float) -> int:
    """Return the bucket of a time in seconds since 1970."""
    return int(now // BUCKET_S)


def window(now: float) -> range:
    """Return the buckets of the last hour, oldest first."""
    return range(bucket_of(now) - WINDOW_BUCKETS, bucket_of(now) + 1)


def began(bucket: int) -> datetime:
    """Return the start of a bucket."""
    return datetime.fromtimestamp(bucket * BUCKET_S, UTC)


def answered_counts(answered: Classification, bucket: int) -> dict[Key, int]:
    """Return what a request's rows add to the counters."""
    key = (DRIFT, str(bucket), answered.tenant, answered.resolution.task, str(answered.resolution.version))
    labels = Counter(row.label for row in answered.predictions)
    confidences = Counter(confidence_bin(row.score) for row in answered.predictions)
    return {
        # a label's index instead of its name, which may hold any character
        **{(*key, f"{_LABEL}:{answered.label_names.index(label)}"): rows for label, rows in labels.items()},
        **{(*key, f"{_CONFIDENCE}:{index}"): rows for index, rows in confidences.items()},
    }


def by_version(counts: Mapping[Key, float]) -> dict[Version, dict[str, int]]:
    """Group the stored counters of one or more buckets by version."""
    found: dict[Version, dict[str, int]] = defaultdict(dict)
    for (_, _, tenant, task, version, word), rows in counts.items():
        # interned, since every bucket repeats the names: an hour of 10,000 tasks takes 50 MB instead of 110
        what, own = intern(word), found[intern(tenant), intern(task), int(version)]
        own[what] = own.get(what, 0) + round(rows)
    return dict(found)


def summed(parts: Iterable[Counts]) -> LiveAnswers:
    """Add up one version's answers over several buckets."""
    labels: Counter[int] = Counter()
    confidences: Counter[int] = Counter()
    for counts in parts:
        for what, rows in counts.items():
            kind, _, index = what.partition(":")
            (labels if kind == _LABEL else confidences)[int(index)] += rows
    return LiveAnswers(labels, confidences)


def num_rows(counts: Counts) -> int:
    """Return the number of rows: each has one label."""
    return sum(rows for what, rows in counts.items() if what.startswith(_LABEL))


_INTERVAL_S = 60.0
_MAX_PROFILES_A_LOOK = 200
"""Profiles read from the registry per check, 2 ms each; the others follow in the next checks."""
_MAX_LOGGED = 20
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """Result of the last check, over the versions in service that have enough rows."""

    reports: Mapping[Version, DriftReport] = field(default_factory=dict)
    worst_label_psi: float = 0.0
    worst_confidence_psi: float = 0.0
    tasks: int = 0
    """Tasks with at least one such version."""
    shifted: frozenset[Version] = frozenset()

    @property
    def shifted_tasks(self) -> int:
        """Tasks with a version whose index is 0.25 or more."""
        return len({(tenant, task) for tenant, task, _ in self.shifted})

    @classmethod
    def of(cls, reports: Mapping[Version, DriftReport]) -> "DriftSnapshot":
        judged = {version: report for version, report in reports.items() if report.verdict != "not_enough_rows"}
        return cls(
            judged,
            max((report.label_psi or 0.0 for report in judged.values()), default=0.0),
            max((report.confidence_psi or 0.0 for report in judged.values()), default=0.0),
            len({(tenant, task) for tenant, task, _ in judged}),
            frozenset(version for version, report in judged.items() if report.worst >= SHIFTED),
        )


class DriftMonitor:
    """Counts answers always, and checks for drift between `start` and `stop`. Belongs to the event loop.

    Args:
        now: returns the seconds since 1970
    """

    def __init__(
        self, counters: CounterBuffer, registry: Registry, catalog: Catalog, *, now: Callable[[], float] = time.time
    ) -> None:
        self._counters, self._registry, self._catalog, self._now = counters, registry, catalog, now
        self._closed: dict[int, BucketCounts] = {}  # buckets that receive no more counts: read once
        self._profiles: dict[Version, ValidationProfile | None] = {}
        self._loop = PeriodicTask(
            "drift-monitor",
            self.look,
            interval_s=_INTERVAL_S,
            call_first=True,
            on_down=lambda error: _log.warning("drift_unwatched", reason=str(error)),
        )
        self.seen = DriftSnapshot()
        """Result of the last check that could read everything."""

    def answered(self, answered: Classification) -> None:
        """Count a request's rows, if its version has a profile to compare them with."""
        if answered.has_profile:
            for key, rows in answered_counts(answered, bucket_of(self._now())).items():
                self._counters.count(*key, by=rows)

    async def report(self, version: Version, profile: ValidationProfile) -> DriftReport:
        """Compare one version's last hour, read now (`RegistryUnavailable`)."""
        tenant, task, number = version
        buckets = window(self._now())
        parts = [
            counts
            for bucket in buckets
            for counts in by_version(await self._counters.read(DRIFT, str(bucket), tenant, task, str(number))).values()
        ]
        return compare(profile, summed(parts), version=number, since=began(buckets[0]))

    async def start(self) -> None:
        """Check now and every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop checking."""
        await self._loop.stop()

    async def look(self) -> None:
        """Compare every version that is in service and has enough rows (`RegistryUnavailable`)."""
        buckets = window(self._now())
        counts = await self._read(buckets)
        enough = await asyncio.to_thread(_with_enough_rows, counts)
        digests = {version: digest for version in enough if (digest := self._in_service(version)) is not None}
        profiles = await asyncio.to_thread(self._known_profiles, digests)
        reports = await asyncio.to_thread(_compare_all, profiles, counts, buckets)
        self._profiles, before, self.seen = profiles, self.seen.shifted, DriftSnapshot.of(reports)
        for version in sorted(self.seen.shifted - before)[:_MAX_LOGGED]:
            report = reports[version]
            _log.warning(
                "answers_shifted", tenant=version[0], task=version[1], version=report.version, rows=report.rows,
                label_psi=report.label_psi, confidence_psi=report.confidence_psi,
            )  # fmt: skip

    async def _read(self, buckets: range) -> list[BucketCounts]:
        """Read the window's buckets.

        A bucket is kept once the next but one has begun: by then every replica has flushed. The counts of a replica
        that was cut off from the store for longer arrive too late and are not seen.
        """
        self._closed = {bucket: counts for bucket, counts in self._closed.items() if bucket in buckets}
        read: list[BucketCounts] = []
        for bucket in buckets:
            counts = self._closed.get(bucket)
            if counts is None:
                counts = await asyncio.to_thread(by_version, await self._counters.read(DRIFT, str(bucket)))
                if bucket < buckets[-1] - 1:
                    self._closed[bucket] = counts
            read.append(counts)
        return read

    def _in_service(self, version: Version) -> str | None:
        """Return the digest of a version that an alias or the canary serves; None for any other."""
        tenant, task, number = version
        try:
            info = self._catalog.task(tenant, task)
        except NotFound:
            return None
        if number not in {*info.aliases.values(), info.traffic.canary}:
            return None
        return next((known.digest for known in info.versions if known.version == number), None)

    def _known_profiles(self, digests: Mapping[Version, str]) -> dict[Version, ValidationProfile | None]:
        """Return the profiles of these versions, and forget all others."""
        profiles = {version: self._profiles[version] for version in digests if version in self._profiles}
        new = [version for version in digests if version not in profiles]
        for version in new[:_MAX_PROFILES_A_LOOK]:
            profiles[version] = self._read_profile(digests[version])
        return profiles

    def _read_profile(self, digest: str) -> ValidationProfile | None:
        try:
            return from_files(self._registry.get(digest)).manifest.validation
        except (NotFound, InvalidAdapter):  # deleted meanwhile, or written by a later version
            return None


def _with_enough_rows(counts: list[BucketCounts]) -> list[Version]:
    """Return the versions with the fewest rows that any verdict needs."""
    rows: Counter[Version] = Counter()
    for bucket in counts:
        for version, own in bucket.items():
            rows[version] += num_rows(own)
    return [version for version, total in rows.items() if total >= min_rows(1)]


def _compare_all(
    profiles: Mapping[Version, ValidationProfile | None], counts: list[BucketCounts], buckets: range
) -> dict[Version, DriftReport]:
    since = began(buckets[0])
    return {
        version: compare(
            profile, summed(bucket[version] for bucket in counts if version in bucket), version=version[2], since=since
        )
        for version, profile in profiles.items()
        if profile is not None
    }
