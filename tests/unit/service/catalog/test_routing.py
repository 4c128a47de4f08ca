"""Routing: which version a bare task name means while a canary or a shadow has part of the traffic."""

from datetime import datetime
from itertools import pairwise

import pytest

from adapters import NO_TRAFFIC, NotFound, Ref, TaskInfo, Traffic, VersionInfo
from service.catalog.routing import Route, position, route

KEYS = [f"user-{number}" for number in range(5_000)]
POSITION = 0.16494990661177056


def task(traffic: Traffic = NO_TRAFFIC, *, name: str = "sst2", tenant: str = "default", **aliases: int) -> TaskInfo:
    versions = tuple(VersionInfo(n, f"sha256:{n:064x}", datetime.min, "test") for n in (1, 2, 3))
    return TaskInfo(tenant, name, versions, aliases or {"production": 1}, traffic)


def never() -> float:
    raise AssertionError("nothing is drawn by lot here")


def routed(info: TaskInfo, ref: str = "sst2", *, key: str | None = None, lot: float = 0.0) -> Route:
    return route(info, Ref.parse(ref), sticky_key=key, draw=never if key else lambda: lot)


def with_canary(info: TaskInfo) -> set[str]:
    return {key for key in KEYS if routed(info, info.task, key=key).primary.version == 2}


def test_a_canary_at_ten_percent_gets_ten_percent_of_the_keys() -> None:
    assert 400 <= len(with_canary(task(Traffic(canary=2, percent=10)))) <= 600


@pytest.mark.parametrize(("percent", "expected"), [(0, 0), (100, len(KEYS))])
def test_no_percent_is_nobody_and_a_hundred_is_everybody(percent: float, expected: int) -> None:
    assert len(with_canary(task(Traffic(canary=2, percent=percent)))) == expected


def test_a_share_that_grows_keeps_the_keys_that_were_in() -> None:
    shares = [with_canary(task(Traffic(canary=2, percent=percent))) for percent in (0.5, 1, 10, 10.5, 50, 99)]
    assert all(smaller < larger for smaller, larger in pairwise(shares))


def test_a_key_stands_where_it_stood_in_every_process() -> None:
    # of the hash itself: were it to change, half of a rollout's users would change sides at an upgrade
    assert position("default", "sst2", 2, "user-1") == pytest.approx(POSITION, abs=1e-12)


def test_each_canary_and_each_task_has_early_keys_of_its_own() -> None:
    traffic = Traffic(canary=2, percent=10)
    first = with_canary(task(traffic))
    others = [with_canary(task(traffic, name="trec")), with_canary(task(traffic, tenant="acme"))]
    others.append({key for key in KEYS if routed(task(Traffic(canary=3, percent=10)), key=key).primary.version == 3})
    for other in others:
        assert len(first & other) < 100  # 50 of 500 where it is by lot


def test_a_request_without_a_key_is_split_by_lot() -> None:
    info = task(Traffic(canary=2, percent=10))
    assert [routed(info, lot=lot).primary.version for lot in (0.0, 0.0999, 0.1001, 0.999)] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("ref", "version"), [("sst2@1", 1), ("sst2@3", 3), ("sst2@old", 1), (f"sst2@sha256:{3:064x}", 3)]
)
def test_a_ref_that_names_its_version_is_never_split_nor_shadowed(ref: str, version: int) -> None:
    info = task(Traffic(canary=2, percent=100, shadow=2), production=1, old=1)
    found = routed(info, ref)
    assert (found.primary.version, found.shadow) == (version, None)


def test_production_by_its_name_is_the_bare_name() -> None:
    info = task(Traffic(canary=2, percent=100, shadow=3))
    assert routed(info, "sst2@production") == routed(info, "sst2")


def test_a_shadow_stands_beside_whoever_answers_but_not_beside_itself() -> None:
    def shadow(traffic: Traffic) -> int | None:
        found = routed(task(traffic), key="user-1").shadow
        return None if found is None else found.version

    assert shadow(Traffic(shadow=3)) == 3
    assert shadow(Traffic(canary=2, percent=100, shadow=3)) == 3
    assert shadow(Traffic(canary=2, percent=100, shadow=2)) is None
    assert shadow(Traffic(canary=2, percent=0, shadow=2)) == 2


def test_a_task_without_production_is_missing_whatever_its_canary() -> None:
    with pytest.raises(NotFound):
        routed(task(Traffic(canary=2, percent=100), other=1))
