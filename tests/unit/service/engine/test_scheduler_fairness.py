"""The scheduler between tenants: shares, starvation, idling, and light rows beside heavy ones."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduler import BUDGET, make_row, scheduler_of

from service.engine.scheduler import Scheduler
from service.engine.types import Row

LARGEST = 40
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 4.0}
tenants = st.sampled_from(sorted(WEIGHTS))
sizes = st.integers(1, LARGEST)


def rows_of(tenant: str, sizes: Iterable[int]) -> list[Row]:
    return [make_row(size, tenant=tenant, weight=WEIGHTS.get(tenant, 1.0)) for size in sizes]


def row_of(tenant: str, size: int) -> Row:
    return rows_of(tenant, [size])[0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(sizes, min_size=20, max_size=40),
    st.lists(st.tuples(tenants, st.integers(1, 30)), max_size=60),
    st.integers(0, 50),
)
@pytest.mark.slow
def test_tenants_that_always_wait_get_tokens_in_proportion_to_their_weights(
    pattern: list[int], bursts: list[tuple[str, int]], seed: int
) -> None:
    """Within 10 % over a window of 140 times the largest row, whatever the sizes and the bursts they come in."""
    scheduler = Scheduler(max_batch_tokens=BUDGET)
    waiting: Counter[str] = Counter()
    served: Counter[str] = Counter()
    turn = seed

    def fill(tenant: str, rows: int) -> None:
        nonlocal turn
        for _ in range(rows):
            scheduler.put([row_of(tenant, pattern[turn % len(pattern)])])
            waiting[tenant] += 1
            turn += 1

    while served.total() < 140 * LARGEST:
        for tenant in WEIGHTS:
            fill(tenant, max(0, BUDGET - waiting[tenant]))  # more rows than one batch can take
        if bursts:
            fill(*bursts[turn % len(bursts)])
        for row in scheduler.next(0).rows:
            waiting[row.tenant] -= 1
            served[row.tenant] += row.num_tokens
    for tenant, weight in WEIGHTS.items():
        share = served[tenant] / served.total()
        assert abs(share / (weight / sum(WEIGHTS.values())) - 1) <= 0.1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tenants, sizes), max_size=60), sizes, st.lists(st.tuples(tenants, sizes), max_size=20))
def test_no_row_waits_longer_than_the_weights_allow_however_much_the_others_send(
    before: list[tuple[str, int]], size: int, after: list[tuple[str, int]]
) -> None:
    """Another tenant gets at most weight ÷ weight times the row's tokens before it, two rows, and one batch.

    The batch is one of the other kind of tenants that began before the row's turn: kinds do not share batches.
    """
    scheduler = scheduler_of(*(row_of(*each) for each in before))
    scheduler.next(0)
    mine = make_row(size, tenant="mine")
    scheduler.put([mine])
    passed: Counter[str] = Counter()
    while True:
        scheduler.put([row_of(*each) for each in after])
        batch = scheduler.next(0).rows
        for row in batch:
            if row is mine:
                break
            passed[row.tenant] += row.num_tokens
        if mine in batch:
            break
        assert passed.total() < 10_000, "it starves"
    for tenant, weight in WEIGHTS.items():
        assert passed[tenant] <= 2 * LARGEST + weight * size + BUDGET


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tenants, sizes, st.booleans()), min_size=1, max_size=80))
def test_a_batch_is_never_empty_while_a_living_row_waits(puts: list[tuple[str, int, bool]]) -> None:
    rows = [make_row(size, gone=gone, tenant=tenant, weight=WEIGHTS[tenant]) for tenant, size, gone in puts]
    scheduler = scheduler_of(*rows)
    alive = sum(not row.cancelled() for row in rows)
    while alive:
        taken = len(scheduler.next(0).rows)
        assert taken
        alive -= taken
    assert scheduler.next(0).rows == []
    assert len(scheduler) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tenants, sizes), min_size=1, max_size=80))
def test_batches_of_backlogged_tenants_are_full(puts: list[tuple[str, int]]) -> None:
    """Until a tenant has no more than a quarter of a batch left, no batch could have taken one more row."""
    rows = [row_of(*each) for each in puts]
    scheduler = scheduler_of(*rows)
    left: Counter[str] = Counter()
    for row in rows:
        left[row.tenant] += row.num_tokens
    while all(tokens > BUDGET // 4 + BUDGET for tokens in left.values()):
        batch = scheduler.next(0).rows
        assert BUDGET - LARGEST < sum(row.num_tokens for row in batch) <= BUDGET
        for row in batch:
            left[row.tenant] -= row.num_tokens


def test_a_tenant_that_was_idle_does_not_get_what_it_left_unused() -> None:
    scheduler = scheduler_of(*rows_of("busy", [10] * 100))
    for _ in range(5):
        scheduler.next(0)
    scheduler.put(rows_of("idle", [10] * 100))
    served = Counter(row.tenant for _ in range(4) for row in scheduler.next(0).rows)
    assert served == {"busy": 20, "idle": 20}


def test_a_tenant_that_empties_its_queue_does_not_shed_what_it_owes() -> None:
    scheduler = scheduler_of(*rows_of("busy", [10] * 100), make_row(200, tenant="large"))
    served: Counter[str] = Counter()
    for _ in range(12):
        for row in scheduler.next(0).rows:
            served[row.tenant] += row.num_tokens
            if row.tenant == "large":
                scheduler.put([make_row(200, tenant="large")])
    assert served["large"] <= served["busy"] + 200


def test_a_newcomer_goes_before_those_who_wait_already() -> None:
    scheduler = scheduler_of(*rows_of("busy", [50] * 20))
    scheduler.next(0)
    scheduler.put([make_row(50, tenant="new")])
    assert scheduler.next(0).rows[0].tenant == "new"


def test_rows_that_died_waiting_are_not_charged_to_their_tenant() -> None:
    dead = [make_row(90, tenant="a", gone=True) for _ in range(5)] + [
        make_row(90, tenant="a", deadline=1.0) for _ in range(5)
    ]
    scheduler = scheduler_of(*dead, *rows_of("a", [20] * 10), *(make_row(20, tenant="even") for _ in range(10)))
    served = Counter(row.tenant for _ in range(2) for row in scheduler.next(2.0).rows)
    assert served == {"a": 5, "even": 5}


def test_a_light_row_does_not_ride_in_a_heavy_batch() -> None:
    heavy = [make_row(20, tenant="heavy") for _ in range(20)]
    light = make_row(20, tenant="light")
    scheduler = scheduler_of(*heavy, light)
    assert scheduler.next(0).rows == heavy[:5]  # it came first
    assert scheduler.next(0).rows == [light]
    assert scheduler.next(0).rows == heavy[5:10]


def test_batches_stay_full_where_light_and_heavy_tenants_take_turns() -> None:
    rows = [make_row(20, tenant=f"{kind} {i}") for i in range(10) for kind in ("light", *["heavy"] * 2)]
    scheduler = scheduler_of(*rows)
    batches = [scheduler.next(0).rows for _ in range(6)]
    assert [sum(row.num_tokens for row in batch) for batch in batches] == [BUDGET] * 6
    assert [len({row.tenant.split()[0] for row in batch}) for batch in batches] == [1] * 6


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(tenants, sizes), max_size=5), max_size=40))
@pytest.mark.slow
def test_the_order_of_rows_is_that_of_their_virtual_start_times(steps: list[list[tuple[str, int]]]) -> None:
    """Against the definition, computed over all that waits: one row a batch, after each of which more may come."""
    scheduler = Scheduler(max_batch_tokens=1)
    lines: dict[str, list[Row]] = {}
    start: dict[str, float] = {}
    came: dict[str, int] = {}
    present, clock = 0.0, 0
    for step in [*steps, *[[]] * 200]:
        rows = [row_of(*each) for each in step]
        scheduler.put(rows)
        for row in rows:
            if not lines.setdefault(row.tenant, []):
                start[row.tenant] = max(start.get(row.tenant, 0.0), present)
                came[row.tenant] = clock = clock + 1
            lines[row.tenant].append(row)
        waiting = [tenant for tenant, line in lines.items() if line]
        if not waiting:
            assert scheduler.next(0).rows == []
            continue
        first = min(waiting, key=lambda tenant: (start[tenant], came[tenant]))
        row = lines[first].pop(0)
        assert scheduler.next(0).rows == [row]
        present = start[first]
        start[first] += row.num_tokens / row.weight
        came[first] = clock = clock + 1
        if not any(lines.values()):
            start.clear()


def test_light_rows_share_a_batch_and_so_do_heavy_ones() -> None:
    light = [make_row(20, tenant=f"light {i}") for i in range(5)]
    assert scheduler_of(*light).next(0).rows == light
    heavy = [make_row(20, tenant=tenant) for _ in range(5) for tenant in ("x", "y")]
    assert scheduler_of(*heavy).next(0).rows == heavy[:5]


def test_a_light_row_that_comes_while_a_heavy_batch_runs_may_go_ahead_of_it() -> None:
    scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(20)))
    scheduler.next(0)
    late, light = make_row(20, tenant="slow", deadline=1.0), make_row(20, tenant="light")
    scheduler.put([late, light, make_row(20, tenant="heavy")])
    batch = scheduler.preempt(2.0)
    assert (batch.rows, batch.expired) == ([light], [late])
    assert scheduler.preempt(2.0).rows == []


def test_a_light_row_that_waits_when_a_heavy_batch_is_taken_may_go_ahead_of_it_too() -> None:
    """It waits because its tenant has preempted the last batch as much as permitted, and is ahead of its share."""
    scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(20)))
    scheduler.next(0)
    for _ in range(BUDGET // 20):
        scheduler.put([light := make_row(20, tenant="light")])
        assert scheduler.preempt(0).rows == [light]
    scheduler.put([light := make_row(20, tenant="light")])
    assert scheduler.preempt(0).rows == []
    assert {row.tenant for row in scheduler.next(0).rows} == {"heavy"}
    assert scheduler.preempt(0).rows == [light]


def test_nothing_goes_ahead_of_a_light_batch_or_of_its_own_tenant_or_as_a_crowd() -> None:
    scheduler = scheduler_of(make_row(20, tenant="light"))
    scheduler.next(0)
    scheduler.put([make_row(20, tenant="other")])
    assert scheduler.preempt(0).rows == []
    scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(5)))
    scheduler.next(0)
    scheduler.put([make_row(20, tenant="heavy"), make_row(20, tenant="crowd"), make_row(20, tenant="crowd")])
    assert scheduler.preempt(0).rows == []


def test_what_goes_ahead_of_a_batch_is_no_more_than_the_batch() -> None:
    scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(20)))
    scheduler.next(0)
    for number in range(20):
        scheduler.put([make_row(20, tenant=f"light {number}")])
    assert len(scheduler.preempt(0).rows) == 5
    assert scheduler.preempt(0).rows == []
    assert len(scheduler) == 30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(10, 25), min_size=10, max_size=20), st.integers(4, 12))
@pytest.mark.slow
def test_going_ahead_gives_no_tenant_more_than_its_share(sizes: list[int], pauses: int) -> None:
    """A tenant that sends a light row at every pause, and waits for each, beside one of four times its weight."""
    scheduler = Scheduler(max_batch_tokens=BUDGET)
    served: Counter[str] = Counter()
    waiting: Counter[str] = Counter()

    def take(rows: Sequence[Row]) -> None:
        for row in rows:
            served[row.tenant] += row.num_tokens
            waiting[row.tenant] -= 1

    for number in range(1_000):
        scheduler.put([make_row(LARGEST, tenant="heavy", weight=4) for _ in range(10 - waiting["heavy"])])
        waiting["heavy"] = 10
        take(scheduler.next(0).rows)
        for pause in range(pauses):
            if not waiting["light"]:
                scheduler.put([make_row(sizes[(number + pause) % len(sizes)], tenant="light")])
                waiting["light"] = 1
            take(scheduler.preempt(0).rows)
    assert served["light"] <= (1 / 5) * 1.1 * served.total()


def test_dead_rows_do_not_make_a_tenant_bulk() -> None:
    """Its callers hung up, or their deadline passed: the tenant's next row is interactive all the same."""
    for dead in ({"gone": True}, {"deadline": 1.0}):
        scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(20)))
        scheduler.next(0)
        rows = [make_row(20, tenant="light", **dead) for _ in range(4)]
        living = make_row(20, tenant="light")
        scheduler.put([*rows, living], now=2.0)
        assert scheduler.preempt(2.0).rows == [living]


def test_a_tenant_whose_flood_was_cancelled_is_as_good_as_new() -> None:
    scheduler = scheduler_of(*(make_row(20, tenant="heavy") for _ in range(40)))
    scheduler.next(0)
    flood = rows_of("light", [20] * 10)
    scheduler.put(flood)
    assert scheduler.preempt(0).rows == []
    for row in flood:
        row.future.cancel()
    living = make_row(20, tenant="light")
    scheduler.put([living])
    assert scheduler.preempt(0).rows == [living]
    assert len(scheduler) == 35


def test_expired_rows_that_were_removed_are_returned_even_if_no_other_waits() -> None:
    scheduler = Scheduler(max_batch_tokens=BUDGET)
    rows = [make_row(20, deadline=1.0) for _ in range(4)]
    scheduler.put(rows, now=2.0)
    assert len(scheduler) == 4
    assert list(scheduler.next(2.0).expired) == rows
    assert len(scheduler) == 0


def test_a_row_larger_than_a_batch_is_preempted_as_far_as_it_is_worked_off() -> None:
    """Also by rows that waited before it, but no tenant gets more than a batch ahead of its share."""
    long = make_row(10 * BUDGET, tenant="long")
    scheduler = scheduler_of(long, *rows_of("early", [20] * 2))
    assert scheduler.next(0).rows == [long]
    scheduler.put(rows_of("light", [20] * 2))
    assert {row.tenant for row in scheduler.preempt(0).rows} == {"early", "light"}
    taken = 0
    for worked in [0.0] * 8:
        scheduler.put([make_row(20, tenant="light"), make_row(20, tenant="long")])
        taken += sum(row.num_tokens for row in scheduler.preempt(0, worked=worked).rows)
    assert taken + 40 <= BUDGET + 20
    assert scheduler.preempt(0, worked=5 * BUDGET).rows != []
    assert all(row.tenant == "light" for row in scheduler.preempt(0, worked=5 * BUDGET).rows)
