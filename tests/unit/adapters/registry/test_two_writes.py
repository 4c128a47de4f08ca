"""Two writes with nothing between them: whatever happens at any call of an operation, nothing is lost or half done."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.proxy import CutsReply, Proxy
from support.redis import RedisServer
from support.registry import Store, Uploads

from adapters import (
    NO_TRAFFIC,
    PRODUCTION,
    AdapterError,
    Change,
    Conflict,
    InvalidTraffic,
    Registry,
    RegistryUnavailable,
    Traffic,
)
from adapters.registry.opening import open_registry
from adapters.registry.rollback import AliasHistory, AliasMove, previous_target, roll_back
from adapters.registry.rollouts import promote
from service.catalog.catalog import Catalog

KEY = ("acme", "sst2")
Operation = Callable[[Registry], object]


def step_back(registry: Registry) -> AliasMove:
    """Roll production back, from one reading of the registry."""
    history = AliasHistory()
    history.apply(registry.changes())
    move = previous_target(registry.describe(*KEY), history)
    roll_back(registry, *KEY, move, actor="rollback")
    return move


OPERATIONS: dict[str, Operation] = {
    "rollback": step_back,
    "promotion of the canary": lambda registry: promote(registry, *KEY, 4, actor="promote", force=True),
    "promotion of the shadow": lambda registry: promote(registry, *KEY, 1, actor="promote", force=True),
    "alias": lambda registry: registry.set_alias(*KEY, PRODUCTION, 4, actor="alias"),
}
OTHERS: dict[str, Operation] = {
    "traffic": lambda registry: registry.set_traffic(*KEY, Traffic(canary=5, percent=7, shadow=4), actor="traffic"),
    "no traffic": lambda registry: registry.set_traffic(*KEY, NO_TRAFFIC, actor="traffic"),
    "production": lambda registry: registry.set_alias(*KEY, PRODUCTION, 5, actor="mover"),
    "no production": lambda registry: registry.delete_alias(*KEY, PRODUCTION, actor="mover"),
    "deletion": lambda registry: registry.delete(*KEY, 2, actor="deleter"),
}


@pytest.fixture
def five(registry: Registry, uploads: Uploads) -> Registry:
    """A task of five versions: production went from 1 to 3, version 4 is canary and version 1 shadow."""
    for number, files in enumerate(uploads[:5]):
        registry.publish(*KEY, files, actor="test", aliases=None if number < 3 else ())
    registry.set_traffic(*KEY, Traffic(canary=4, percent=10, shadow=1), actor="test")
    return registry


class AtCall:
    """The registry, where something happens right before the call with a given number."""

    def __init__(self, registry: Registry, number: int, happens: Callable[[], object]) -> None:
        self._registry, self._left, self._happens = registry, number, happens

    @property
    def reached(self) -> bool:
        """Whether the operation made that many calls."""
        return self._left < 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left == -1:
                self._happens()
            return getattr(self._registry, name)(*arguments, **options)

        return call


def assert_nothing_lost(changes: list[Change]) -> None:
    """Replay a log: a move of production takes part of the traffic away, and only what it may."""
    traffic, production = NO_TRAFFIC, None
    for before, change in zip([None, *changes], changes, strict=False):
        match change.kind:
            case "alias_set" if change.alias == PRODUCTION:
                production = change.version
            case "alias_deleted" if change.alias == PRODUCTION:
                production = None
            case "traffic_set":
                assert change.traffic is not None
                if change.actor not in (
                    "test",
                    "traffic",
                ):  # nobody else sets traffic but with a move, in the same write
                    assert before is not None
                    assert (before.kind, before.actor) == ("alias_set", change.actor)
                    ends = change.actor == "rollback"
                    assert change.traffic == traffic.under(before.version, end_canary=ends)
                traffic = change.traffic
    assert production is None or production not in traffic.versions


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_another_writes_at_any_call_of_an_operation_is_kept(five: Registry, name: str, other: str) -> None:
    for number in count():
        done: list[bool] = []

        def interfere(done: list[bool] = done) -> None:
            try:
                OTHERS[other](five)
            except AdapterError:
                return
            done.append(True)

        way = AtCall(five, number, interfere)
        position = five.changes()[-1].position
        try:
            OPERATIONS[name](way)  # type: ignore[arg-type]
        except AdapterError:
            left = five.describe(*KEY).traffic  # refused: what the other wrote stands alone
            if done == [True] and other == "traffic":
                assert left == Traffic(canary=5, percent=7, shadow=4)
        assert_nothing_lost(list(five.changes()))
        if not way.reached:
            break
        assert len(five.changes(position)) <= 4
        restore(five)


def restore(registry: Registry) -> None:
    """Bring the task back to where it began, as far as the versions that are left allow."""
    versions = {version.version for version in registry.describe(*KEY).versions}
    for version in sorted(versions & {1, 2, 3}):
        registry.set_alias(*KEY, PRODUCTION, version, actor="mover", end_canary=False)
    registry.set_traffic(*KEY, Traffic(canary=4, percent=10, shadow=1), actor="test")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_store_that_fails_at_any_call_leaves_all_or_nothing(five: Registry, name: str) -> None:
    """And the repeat of what failed does what it was to do, once."""

    def fail() -> None:
        raise RegistryUnavailable("the connection is gone")

    before = five.describe(*KEY)
    expected = {"rollback": 2, "promotion of the canary": 4, "promotion of the shadow": 1, "alias": 4}[name]
    for number in count():
        way = AtCall(five, number, fail)
        try:
            OPERATIONS[name](way)  # type: ignore[arg-type]
        except RegistryUnavailable:
            assert five.describe(*KEY) == before
            continue
        assert not way.reached
        break
    info = five.describe(*KEY)
    assert info.aliases[PRODUCTION] == expected
    assert info.traffic == before.traffic.under(expected, end_canary=name == "rollback")


def test_traffic_cannot_name_the_version_that_is_promoted_at_the_same_moment(five: Registry) -> None:
    """The check for production's own version and the write are one: at whichever call production moves."""
    for number in count():
        restore(five)
        five.set_alias(*KEY, PRODUCTION, 3, actor="mover")
        way = AtCall(five, number, lambda: five.set_alias(*KEY, PRODUCTION, 5, actor="mover"))
        try:
            way.set_traffic(*KEY, Traffic(canary=5, percent=50), actor="traffic")
        except InvalidTraffic:
            assert five.describe(*KEY).traffic == Traffic(canary=4, percent=10, shadow=1)
        if not way.reached:
            break
    assert_nothing_lost(list(five.changes()))


def test_an_adapter_published_again_into_production_is_no_longer_shadow(five: Registry, uploads: Uploads) -> None:
    five.publish(*KEY, uploads[0], actor="publish", aliases=(PRODUCTION,))
    info = five.describe(*KEY)
    assert (info.aliases[PRODUCTION], info.traffic) == (1, Traffic(canary=4, percent=10))


def test_a_rollback_is_not_taken_from_a_log_and_a_task_of_two_moments(five: Registry) -> None:
    history = AliasHistory()
    history.apply(five.changes())
    five.set_alias(*KEY, PRODUCTION, 5, actor="mover")
    with pytest.raises(Conflict, match="was moved at this moment, try again"):
        previous_target(five.describe(*KEY), history)


rollouts = st.one_of(
    st.tuples(st.just("rollback"), st.none()),
    st.tuples(st.just("promote"), st.integers(1, 5)),
    st.tuples(st.just("alias"), st.integers(1, 5)),
    st.tuples(st.just("traffic"), st.builds(Traffic, canary=st.integers(1, 5), shadow=st.none() | st.integers(1, 5))),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(each=st.lists(st.lists(rollouts, min_size=3, max_size=8), min_size=3, max_size=3))
@pytest.mark.slow
def test_threads_that_interleave_lose_no_traffic_that_was_acknowledged(
    store: Store, five: Registry, each: list[list[tuple[str, Any]]]
) -> None:
    together, percents, acknowledged = threading.Barrier(len(each)), count(1), []
    begin = five.changes()[-1].position
    restore(five)

    def work(steps: list[tuple[str, Any]]) -> None:
        registry = store.open()
        together.wait(30)
        for name, value in steps:
            try:
                match name:
                    case "rollback":
                        step_back(registry)
                    case "promote":
                        promote(registry, *KEY, value, actor="promote", force=True)
                    case "alias":
                        registry.set_alias(*KEY, PRODUCTION, value, actor="alias")
                    case "traffic":
                        traffic = Traffic(value.canary, next(percents) / 100, value.shadow)
                        registry.set_traffic(*KEY, traffic, actor="traffic")
                        acknowledged.append(traffic)
            except (Conflict, InvalidTraffic):
                pass

    with ThreadPoolExecutor(len(each)) as pool:
        list(pool.map(work, each))
    log = list(five.changes())
    assert_nothing_lost(log)
    told = [change.traffic for change in log if change.position > begin and change.actor == "traffic"]
    assert sorted(map(str, told)) == sorted(map(str, acknowledged))


# --- a connection that breaks between a script and its reply


@pytest.fixture
def cut(redis_server: RedisServer) -> Iterator[tuple[Registry, Registry, CutsReply]]:
    """A registry over a way that can be cut, the same one over another way, and what cuts."""
    cutter, place = CutsReply(), redis_server.place()
    way = Proxy(redis_server.port, alter=cutter)
    yield (
        open_registry(place.replace(str(redis_server.port), str(way.port))),
        open_registry(place),
        cutter,
    )
    way.close()


@pytest.mark.redis
@pytest.mark.parametrize("name", ["rollback", "promotion of the canary", "promotion of the shadow", "alias"])
def test_a_lost_command_or_reply_leaves_nothing_or_everything_and_the_repeat_goes_no_further(
    cut: tuple[Registry, Registry, CutsReply], uploads: Uploads, name: str
) -> None:
    through, direct, cutter = cut
    for number, files in enumerate(uploads[:5]):
        direct.publish(*KEY, files, actor="test", aliases=None if number < 3 else ())
    direct.set_traffic(*KEY, Traffic(canary=4, percent=10, shadow=1), actor="test")
    through.describe(*KEY)
    history = AliasHistory()
    history.apply(direct.changes())
    move = previous_target(direct.describe(*KEY), history)
    attempt: Operation = OPERATIONS[name]
    if name == "rollback":
        attempt = lambda registry: roll_back(registry, *KEY, move, actor="rollback")  # noqa: E731
    before = direct.describe(*KEY)
    cutter.armed = b"EVALSHA"  # the command is lost: nothing was done
    with pytest.raises(RegistryUnavailable):
        attempt(through)
    assert direct.describe(*KEY) == before
    cutter.armed = b"\r\ndone\r\n"  # the reply is lost: everything was
    with pytest.raises(RegistryUnavailable):
        attempt(through)
    assert cutter.armed is None
    done = direct.describe(*KEY)
    assert done.aliases[PRODUCTION] != 3
    assert_nothing_lost(list(direct.changes()))
    refused = pytest.raises(Conflict, match="points at version 2, expected version 3")
    with refused if name == "rollback" else nullcontext():
        attempt(through)
    assert direct.describe(*KEY) == done


# --- a process that is killed between any two writes

MOVE_AND_BE_KILLED = """
import os, random, signal, sys, time
from adapters import AdapterError, Traffic
from adapters.registry.opening import open_registry
from adapters.registry.rollback import AliasHistory, previous_target, roll_back
from adapters.registry.rollouts import promote
from service.catalog.catalog import Catalog

place, kills, key = sys.argv[1], int(sys.argv[2]), ("acme", "sst2")
chance = random.Random(7)
for number in range(kills):
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        registry = open_registry(place)
        while True:
            for version in (4, 5, 1):
                try:
                    registry.set_traffic(*key, Traffic(canary=version, percent=number + 1, shadow=2), actor="traffic")
                    promote(registry, *key, version, actor="promote", force=True)
                    history = AliasHistory()
                    history.apply(registry.changes())
                    roll_back(registry, *key, previous_target(registry.describe(*key), history), actor="rollback")
                except AdapterError:
                    pass
                os.write(writing, b".")
    for _ in range(2):
        os.read(reading, 1)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(reading), os.close(writing)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_leaves_alias_and_traffic_of_one_operation(
    store: Store, five: Registry
) -> None:
    command = [sys.executable, "-c", MOVE_AND_BE_KILLED, store.place, "12"]
    subprocess.run(command, cwd=Path(__file__).parents[4], check=True, timeout=120)
    log = list(five.changes())
    assert_nothing_lost(log)
    catalog = Catalog()
    catalog.apply(log)
    assert catalog.task(*KEY) == five.describe(*KEY)
    assert len([change for change in log if change.actor in ("promote", "rollback")]) > 12
