"""The drift watch by hand: the index against worked values, what is counted, what leaves the window."""

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.adapters import an_adapter
from support.counters import CounterPlace, new_place
from support.drift import LABELS, classification, profile_from
from support.redis import RedisServer

from adapters import PRODUCTION, Registry, Traffic
from adapters.files import to_files
from adapters.profile import ValidationProfile
from adapters.registry.opening import open_registry
from service.catalog.catalog import Catalog
from service.counters.buffer import CounterBuffer
from service.monitoring.drift import LiveAnswers, compare, min_rows, population_stability_index
from service.monitoring.drift_monitor import BUCKET_S, DriftMonitor

NOW = 1_800_000_000.0
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SURE, UNSURE = 0.95, 0.55
EVEN = [("negative", SURE), ("positive", SURE), ("negative", UNSURE), ("positive", SURE)] * 60
ONE_SIDED = [("negative", SURE), ("negative", SURE), ("negative", UNSURE), ("negative", SURE)] * 60


@pytest.mark.parametrize(
    ("expected", "live", "index"),
    [
        ([20_000_000, 80_000_000], [30_000_000, 70_000_000], 0.1 * math.log(0.3 / 0.2) + 0.1 * math.log(0.8 / 0.7)),
        ([50, 50], [25, 75], (50.5 - 25.5) / 101 * math.log(50.5 / 25.5) + (75.5 - 50.5) / 101 * math.log(75.5 / 50.5)),
        ([50, 50], [25, 75], 0.268676),
        ([10, 0], [0, 10], 2 * (10 / 11) * math.log(21)),
        ([10, 0, 0], [10, 0, 0], 0.0),
        ([10, 0, 10, 0], [5, 0, 5, 0], 0.0),
    ],
)
def test_the_index_is_what_is_worked_out_by_hand(expected: list[int], live: list[int], index: float) -> None:
    assert population_stability_index(expected, live) == pytest.approx(index, abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12))
def test_the_index_is_never_negative_and_the_same_both_ways(bins: list[tuple[int, int]]) -> None:
    expected, live = [ours for ours, _ in bins], [theirs for _, theirs in bins]
    index = population_stability_index(expected, live)
    assert index >= 0
    assert math.isfinite(index)
    assert population_stability_index(live, expected) == pytest.approx(index)
    assert population_stability_index(expected, expected) == 0


def profile(label_counts: Sequence[int]) -> ValidationProfile:
    rows = sum(label_counts)
    return ValidationProfile(label_counts=tuple(label_counts), confidence_counts=(0,) * 9 + (rows,), rows=rows)


@pytest.mark.parametrize(
    ("negative", "verdict"), [(500, "stable"), (360, "stable"), (320, "shifting"), (280, "shifting"), (240, "shifted")]
)
def test_a_verdict_follows_the_index(negative: int, verdict: str) -> None:
    live = LiveAnswers({0: negative, 1: 1_000 - negative}, {9: 1_000})
    report = compare(profile([500, 500]), live, version=3, since=SINCE)
    assert report.verdict == verdict
    assert report.label_psi is not None
    assert report.confidence_psi == 0
    assert (report.version, report.rows, report.since) == (3, 1_000, SINCE)


def test_confidences_alone_can_shift() -> None:
    report = compare(profile([500, 500]), LiveAnswers({0: 200, 1: 200}, {5: 400}), version=1, since=SINCE)
    assert report.label_psi == pytest.approx(0, abs=1e-6)
    assert report.verdict == "shifted"


@pytest.mark.parametrize(
    ("validation", "live", "enough"),
    [([500, 500], 199, False), ([500, 500], 200, True), ([100, 99], 5_000, False), ([100] * 30, 599, False)],
)
def test_few_rows_here_or_there_have_no_verdict(validation: list[int], live: int, enough: bool) -> None:
    report = compare(profile(validation), LiveAnswers({0: live}, {9: live}), version=1, since=SINCE)
    assert (report.verdict != "not_enough_rows") is enough
    assert (report.label_psi is not None) is enough
    assert (report.confidence_psi is not None) is enough
    assert report.rows == live


def test_the_least_rows_grow_with_the_labels() -> None:
    assert [min_rows(labels) for labels in (2, 10, 11, 150)] == [200, 200, 220, 3_000]


class Replica:
    """One server's watch over a counter store and a registry that it shares."""

    def __init__(self, place: CounterPlace, registry: Registry) -> None:
        self._place, self._registry, self.catalog = place, registry, Catalog()
        self.counters = CounterBuffer(place.open())
        self.watch = DriftMonitor(self.counters, registry, self.catalog, now=lambda: place.now)

    def answered(self, rows: Sequence[tuple[str, float]], **of: object) -> None:
        self.watch.answered(classification(rows, **of))

    async def rows(self, *, tenant: str = "acme", version: int = 1) -> int:
        return (await self.watch.report((tenant, "mood", version), profile_from(EVEN))).rows

    async def look(self) -> None:
        self.catalog.restore(self._registry.snapshot())
        await self.watch.look()


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> CounterPlace:
    made = new_place(request.param, tmp_path, redis_server)
    made.now = NOW
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With one task that was even on its validation rows, and another version of it that nobody is sent to."""
    registry = open_registry(tmp_path / "tasks.sqlite")
    for seed in (1, 2):
        adapter = an_adapter(validation=profile_from(EVEN[: 240 - seed]))
        registry.publish("acme", "mood", to_files(adapter), aliases=(PRODUCTION,) if seed == 1 else (), actor="test")
    return registry


def test_replicas_add_up_and_tenants_and_versions_do_not(place: CounterPlace, registry: Registry) -> None:
    async def scenario() -> None:
        one, two = Replica(place, registry), Replica(place, registry)
        one.answered(EVEN[:120])
        two.answered(EVEN[:100])
        two.answered(EVEN[:30], version=2)
        two.answered(EVEN[:7], tenant="zeta")
        two.answered(EVEN[:5], has_profile=False)
        await one.counters.flush()
        await two.counters.flush()
        for replica in (one, two):
            assert await replica.rows() == 220
            assert await replica.rows(version=2) == 30
            assert await replica.rows(tenant="zeta") == 7
            await replica.look()
            assert replica.watch.seen.tasks == 1
            assert replica.watch.seen.reports["acme", "mood", 1].rows == 220
            assert replica.watch.seen.reports["acme", "mood", 1].verdict == "stable"

    asyncio.run(scenario())


def test_an_hour_old_answers_leave_the_window(place: CounterPlace, registry: Registry) -> None:
    async def scenario() -> None:
        replica = Replica(place, registry)
        replica.answered(ONE_SIDED)
        for minutes, rows, shifted in ((0, 240, 1), (59, 240, 1), (66, 0, 0)):
            place.now = NOW + 60 * minutes
            assert await replica.rows() == rows
            await replica.look()
            assert replica.watch.seen.shifted_tasks == shifted
        assert any(key[0] == "drift" for key in place.open().read()), (
            "it is the window that it left, not the counter store"
        )

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_look_sees_in_every_bucket_what_is_there(place: CounterPlace, registry: Registry) -> None:
    """Buckets that are over are not read again, and still are in the sum for as long as they are in the window."""

    async def scenario() -> None:
        replica = Replica(place, registry)
        for step in range(30):
            place.now = NOW + step * BUCKET_S / 2
            replica.answered(EVEN[: 20 + step])
            await replica.look()
            rows = await replica.rows()
            seen = replica.watch.seen.reports
            assert rows < 200 or seen["acme", "mood", 1].rows == rows
        assert rows == sum(20 + step for step in range(4, 30))
        assert len(replica.watch._closed) < 13

    asyncio.run(scenario())


def test_only_versions_that_callers_get_are_looked_at(place: CounterPlace, registry: Registry) -> None:
    async def scenario() -> None:
        replica = Replica(place, registry)
        replica.answered(EVEN)
        replica.answered(ONE_SIDED, version=2)
        replica.answered(ONE_SIDED, version=3)
        replica.answered(ONE_SIDED, task="gone")
        await replica.look()
        assert set(replica.watch.seen.reports) == {("acme", "mood", 1)}
        registry.set_traffic("acme", "mood", Traffic(canary=2, percent=10), actor="test")
        await replica.look()
        assert replica.watch.seen.shifted == {("acme", "mood", 2)}
        assert (replica.watch.seen.tasks, replica.watch.seen.shifted_tasks) == (1, 1)
        assert replica.watch.seen.worst_label_psi > 0.25
        registry.set_traffic("acme", "mood", Traffic(), actor="test")
        await replica.look()
        assert replica.watch.seen.shifted == frozenset()

    asyncio.run(scenario())


def test_a_label_may_hold_any_character(place: CounterPlace, registry: Registry) -> None:
    async def scenario() -> None:
        replica = Replica(place, registry)
        odd = ("a\x1fb", "c:d")
        replica.answered([(odd[0], SURE), (odd[1], 1.0), (odd[0], 0.0)], label_names=odd)
        assert await replica.rows() == 3

    asyncio.run(scenario())


def test_nothing_is_counted_of_a_version_without_a_profile(place: CounterPlace, registry: Registry) -> None:
    replica = Replica(place, registry)
    replica.answered(EVEN, has_profile=False)
    assert len(replica.counters) == 0
    replica.answered(EVEN)
    assert len(replica.counters) == len(LABELS) + 2  # two of the ten bins
