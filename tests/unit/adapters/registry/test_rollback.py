"""Rollback: where an alias goes back to, over both registries."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.registry import Store, Uploads

from adapters import Conflict, InvalidTraffic, NotFound, Registry, Traffic
from adapters.registry.rollback import AliasHistory, AliasMove, previous_target, roll_back

KEY = ("acme", "sst2")


@pytest.fixture
def three(registry: Registry, uploads: Uploads) -> Registry:
    """A task whose production went from version 1 to 3."""
    for files in uploads[:3]:
        registry.publish(*KEY, files, actor="test")
    return registry


def next_step(registry: Registry, alias: str = "production", expected: int | None = None) -> AliasMove:
    history = AliasHistory()
    history.apply(registry.changes())
    return previous_target(registry.describe(*KEY), history, alias=alias, expected=expected)


def step(registry: Registry) -> AliasMove:
    move = next_step(registry)
    roll_back(registry, *KEY, move, actor="test")
    return move


def test_rolling_back_twice_goes_two_versions_back_and_then_there_is_no_further(three: Registry) -> None:
    assert step(three) == AliasMove("production", 3, 2)
    assert step(three) == AliasMove("production", 2, 1)
    with pytest.raises(Conflict, match="sst2@production points at version 1 and has no previous version"):
        step(three)
    assert three.describe(*KEY).aliases == {"production": 1}


def test_what_is_released_after_a_rollback_goes_back_to_what_it_replaced(three: Registry, uploads: Uploads) -> None:
    step(three)  # to 2
    three.publish(*KEY, uploads[3], actor="test")
    assert step(three) == AliasMove("production", 4, 2)
    three.set_alias(*KEY, "production", 3, actor="test")
    assert step(three) == AliasMove("production", 3, 2)


def test_an_alias_that_was_moved_back_by_hand_forgets_what_came_after(three: Registry) -> None:
    three.set_alias(*KEY, "production", 2, actor="test")
    assert step(three) == AliasMove("production", 2, 1)


def test_a_deleted_version_is_passed_over(three: Registry) -> None:
    three.delete(*KEY, 2, actor="test")
    assert step(three) == AliasMove("production", 3, 1)


def test_each_alias_and_each_task_has_a_way_of_its_own(three: Registry, uploads: Uploads) -> None:
    three.publish("acme", "trec", uploads[5], actor="test")
    three.publish("zeta", "sst2", uploads[6], actor="test")
    three.set_alias(*KEY, "best", 1, actor="test")
    three.set_alias(*KEY, "best", 3, actor="test")
    assert next_step(three, "best") == AliasMove("best", 3, 1)
    roll_back(three, *KEY, next_step(three, "best"), actor="test")
    assert three.describe(*KEY).aliases == {"best": 1, "production": 3}


def test_an_alias_that_was_deleted_begins_anew(three: Registry) -> None:
    three.delete_alias(*KEY, "production", actor="test")
    with pytest.raises(NotFound, match="no sst2@production"):
        next_step(three)
    three.set_alias(*KEY, "production", 2, actor="test")
    with pytest.raises(Conflict):
        next_step(three)


@pytest.mark.slow
def test_a_way_of_many_versions_keeps_the_last(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:40]:
        registry.publish(*KEY, files, actor="test")
    for version in range(39, 8, -1):
        assert step(registry).version == version
    with pytest.raises(Conflict):
        step(registry)


def test_an_expectation_that_does_not_hold_is_refused(three: Registry) -> None:
    assert next_step(three, expected=3).version == 2
    with pytest.raises(Conflict, match="points at version 3, expected version 2"):
        next_step(three, expected=2)


def test_of_rollbacks_at_once_one_makes_its_step(store: Store, three: Registry) -> None:
    move, together = next_step(three), threading.Barrier(4)

    def attempt(_: int) -> bool:
        registry = store.open()
        together.wait(30)
        try:
            roll_back(registry, *KEY, move, actor="test")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]
    assert three.describe(*KEY).aliases == {"production": 2}


def test_rolling_production_back_ends_its_canary_and_keeps_its_shadow(three: Registry) -> None:
    three.set_alias(*KEY, "production", 2, actor="test")
    three.set_traffic(*KEY, Traffic(canary=3, percent=10, shadow=3), actor="test")
    step(three)
    assert three.describe(*KEY).traffic == Traffic(shadow=3)


def test_rolling_back_to_the_shadow_ends_it(three: Registry) -> None:
    three.set_traffic(*KEY, Traffic(shadow=2), actor="test")
    step(three)
    assert three.describe(*KEY).traffic == Traffic()


def test_another_alias_rolled_back_leaves_the_traffic(three: Registry) -> None:
    three.set_alias(*KEY, "best", 1, actor="test")
    three.set_alias(*KEY, "best", 2, actor="test")
    traffic = Traffic(canary=2, percent=10)
    three.set_traffic(*KEY, traffic, actor="test")
    roll_back(three, *KEY, next_step(three, "best"), actor="test")
    assert three.describe(*KEY).traffic == traffic


@pytest.mark.parametrize("traffic", [Traffic(canary=3, percent=5), Traffic(shadow=3)])
def test_production_is_no_canary_or_shadow_of_itself(three: Registry, traffic: Traffic) -> None:
    with pytest.raises(InvalidTraffic, match="is version 3, which production is already"):
        three.set_traffic(*KEY, traffic, actor="test")
    assert three.describe(*KEY).traffic == Traffic()
