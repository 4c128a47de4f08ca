"""What is counted of answers for the drift watch: labels and confidences by version, in buckets of five minutes.

Pure. Counters add up over replicas: `("drift", bucket, tenant, task, version, "label:1")`.
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


_INTERVAL_S = 60.0
_MAX_PROFILES_A_LOOK = 200
"""Read from the registry in one look, 2 ms each; the others are judged in the next ones."""
_MAX_LOGGED = 20
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class DriftSnapshot:
    """What the last look found, over the versions in service that have enough rows."""

    reports: Mapping[Version, DriftReport] = field(default_factory=dict)
    worst_label_psi: float = 0.0
    worst_confidence_psi: float = 0.0
    tasks: int = 0
    """Tasks with such a version."""
    shifted: frozenset[Version] = frozenset()

    @property
    def shifted_tasks(self) -> int:
        """Tasks with a version past 0.25."""
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
    """Counts always; looks while it is started.

    Args:
        now: seconds since 1970
    """

    def __init__(
        self, tally: CounterBuffer, registry: Registry, catalog: Catalog, *, now: Callable[[], float] = time.time
    ) -> None:
        self._tally, self._registry, self._catalog, self._now = tally, registry, catalog, now
        self._closed: dict[int, BucketCounts] = {}  # buckets that get no more counts: read once
        self._profiles: dict[Version, ValidationProfile | None] = {}
        self._loop = PeriodicTask(
            "drift-monitor",
            self.look,
            interval_s=_INTERVAL_S,
            call_first=True,
            on_down=lambda error: _log.warning("drift_unwatched", reason=str(error)),
        )
        self.seen = DriftSnapshot()
        """As of the last look that could read everything."""

    def answered(self, answered: Classification) -> None:
        """Count a request's rows, where there is something to compare them with."""
        if answered.watched:
            for key, rows in answered_counts(answered, bucket_of(self._now())).items():
                self._tally.count(*key, by=rows)

    async def report(self, version: Version, profile: ValidationProfile) -> DriftReport:
        """One version's last hour, as of now (`RegistryUnavailable`)."""
        tenant, task, number = version
        buckets = window(self._now())
        parts = [
            counts
            for bucket in buckets
            for counts in by_version(await self._tally.read(DRIFT, str(bucket), tenant, task, str(number))).values()
        ]
        return compare(profile, summed(parts), version=number, since=began(buckets[0]))

    async def start(self) -> None:
        """Look now and every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """End that."""
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
        """The window's buckets. One is kept when the next but one has begun: by then every replica has flushed, but for
        one that is cut off from the ledger, whose counts come too late for this.
        """
        self._closed = {bucket: counts for bucket, counts in self._closed.items() if bucket in buckets}
        read: list[BucketCounts] = []
        for bucket in buckets:
            counts = self._closed.get(bucket)
            if counts is None:
                counts = await asyncio.to_thread(by_version, await self._tally.read(DRIFT, str(bucket)))
                if bucket < buckets[-1] - 1:
                    self._closed[bucket] = counts
            read.append(counts)
        return read

    def _in_service(self, version: Version) -> str | None:
        """The digest of a version that callers get without asking for it by number; None of any other."""
        tenant, task, number = version
        try:
            info = self._catalog.task(tenant, task)
        except NotFound:
            return None
        if number not in {*info.aliases.values(), info.traffic.canary}:
            return None
        return next((known.digest for known in info.versions if known.version == number), None)

    def _known_profiles(self, digests: Mapping[Version, str]) -> dict[Version, ValidationProfile | None]:
        """Those of the versions given, and no others."""
        profiles = {version: self._profiles[version] for version in digests if version in self._profiles}
        new = [version for version in digests if version not in profiles]
        for version in new[:_MAX_PROFILES_A_LOOK]:
            profiles[version] = self._read_profile(digests[version])
        return profiles

    def _read_profile(self, digest: str) -> ValidationProfile | None:
        try:
            return from_files(self._registry.get(digest)).manifest.validation
        except (NotFound, InvalidAdapter):  # deleted just now, or of a later format
            return None


def _with_enough_rows(counts: list[BucketCounts]) -> list[Version]:
    """Versions that have the rows that any verdict takes."""
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
