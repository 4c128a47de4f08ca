"""Background entries: run while nobody waits, in small batches, and passed by light rows."""

import pytest
from support.scheduler import BUDGET, make_row

from service.engine.scheduler import Scheduler
from service.engine.types import Row


def background(num_tokens: int = 10, **changes: object) -> Row:
    return make_row(num_tokens, tenant="shadow", background=True, **changes)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(max_batch_tokens=BUDGET)


def test_background_waits_until_nobody_else_does_and_shares_no_batch(scheduler: Scheduler) -> None:
    behind = [background() for _ in range(3)]
    scheduler.put(behind)
    waiting = [make_row(40, tenant=tenant) for tenant in "abc" for _ in range(2)]
    scheduler.put(waiting)
    batches = [scheduler.next(0).rows for _ in range(5)]
    assert sorted(map(id, (entry for batch in batches[:3] for entry in batch))) == sorted(map(id, waiting))
    assert batches[3:] == [behind[:2], behind[2:]]  # a quarter of the budget
    assert len(scheduler) == 0


def test_a_row_that_comes_while_background_waits_is_next(scheduler: Scheduler) -> None:
    scheduler.put([background() for _ in range(10)])
    scheduler.next(0)
    late = make_row(60)
    scheduler.put([late])
    assert scheduler.next(0).rows == [late]


def test_light_rows_go_ahead_of_a_background_batch_and_background_never_does(scheduler: Scheduler) -> None:
    scheduler.put([background() for _ in range(4)])
    assert len(scheduler.next(0).rows) == 2
    light, heavy = make_row(20, tenant="light"), [make_row(20, tenant="heavy") for _ in range(3)]
    scheduler.put([light, *heavy, background()])
    assert scheduler.preempt(0).rows == [light]
    assert scheduler.next(0).rows == heavy
    scheduler.put([background(1)])
    assert scheduler.preempt(0).rows == []


def test_background_charges_nobody(scheduler: Scheduler) -> None:
    """A tenant of the same name as a background entry's is where it was."""
    scheduler.put([background(25) for _ in range(20)])
    for _ in range(20):
        scheduler.next(0)
    first, second = make_row(10, tenant="other"), make_row(10, tenant="shadow")
    scheduler.put([second, first])
    assert scheduler.next(0).rows == [second, first]


def test_a_background_row_larger_than_a_quarter_goes_alone(scheduler: Scheduler) -> None:
    large = background(90)
    scheduler.put([large, background()])
    assert scheduler.next(0).rows == [large]


def test_dead_background_leaves_and_the_expired_are_told(scheduler: Scheduler) -> None:
    late, alive = background(deadline=5.0), background()
    scheduler.put([background(gone=True), late, alive])
    batch = scheduler.next(5.0)
    assert (list(batch.rows), list(batch.expired)) == ([alive], [late])
    assert len(scheduler) == 0


def test_dead_background_does_not_pile_up_behind_a_tenant_that_always_waits(scheduler: Scheduler) -> None:
    for _ in range(1_000):
        scheduler.put([make_row(100), background(gone=True)])
        scheduler.next(0)
    assert len(scheduler) <= 200
