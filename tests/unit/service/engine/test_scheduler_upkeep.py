"""What the scheduler keeps and looks at: rows that died, tenants that left, rows behind those it takes."""

import pytest
from support.scheduler import BUDGET, make_row, scheduler_of


@pytest.mark.slow
def test_dead_rows_do_not_pile_up_behind_living_ones() -> None:
    scheduler = scheduler_of(*(make_row(BUDGET, tenant="flood") for _ in range(50)))
    for _ in range(40):
        scheduler.put([make_row(1, tenant="flood", gone=True) for _ in range(1_000)])
        scheduler.next(0)
        assert len(scheduler) <= 1_000 + 2 * 64 + 2 * 50


def test_expired_rows_deep_in_the_queue_come_back_with_the_next_batch_after_many() -> None:
    late = [make_row(1, deadline=1.0) for _ in range(200)]
    scheduler = scheduler_of(*(make_row(BUDGET) for _ in range(3)), *late)
    batch = scheduler.next(2.0)
    assert batch.expired == late
    assert len(scheduler) == 2


@pytest.mark.slow
def test_tenants_that_left_are_forgotten() -> None:
    scheduler = scheduler_of(*(make_row(BUDGET // 2, tenant="busy") for _ in range(4_000)))
    for number in range(1_500):
        scheduler.put([make_row(1, tenant=f"passer-by {number}")])
        scheduler.next(0)
    assert len(scheduler._queues) <= 2 * len(scheduler)
    while len(scheduler):
        scheduler.next(0)
    assert len(scheduler._queues) == 0


class Counted(float):
    """A deadline that counts how often anything looks at it."""

    looked_at = 0

    def __le__(self, other: float) -> bool:
        Counted.looked_at += 1
        return super().__le__(other)

    def __gt__(self, other: float) -> bool:
        Counted.looked_at += 1
        return super().__gt__(other)


@pytest.mark.slow
def test_a_pop_looks_at_the_rows_it_takes_and_not_at_those_behind() -> None:
    """Counted over rows, not timed: sweeps included, a row is looked at a few times in its life."""
    looks = {}
    for num_rows in (200, 20_000):
        Counted.looked_at = 0
        scheduler = scheduler_of(*(make_row(10, deadline=Counted(9), tenant=str(i % 7)) for i in range(num_rows)))
        scheduler.next(0)  # the first pop after so many rows sweeps them once
        after_sweep = Counted.looked_at
        for _ in range(10):
            scheduler.next(0)
        looks[num_rows] = Counted.looked_at - after_sweep
    assert looks[200] == looks[20_000] <= 10 * (BUDGET // 10 + 1)


@pytest.mark.slow
def test_a_pause_of_a_batch_looks_at_few_of_the_rows_that_wait() -> None:
    """Counted, not timed: a bulk batch pauses some thirty times, however many interactive tenants wait."""
    looks, num_pauses = {}, 30
    for num_tenants in (20, 2_000):
        scheduler = scheduler_of(*(make_row(10, tenant="heavy") for _ in range(40)))
        scheduler.put([make_row(15, deadline=Counted(9), tenant=f"light {i}") for i in range(num_tenants)])
        while (served := {row.tenant for row in scheduler.next(0).rows}) != {"heavy"}:
            scheduler.put([make_row(15, deadline=Counted(9), tenant=tenant) for tenant in served])
        Counted.looked_at = 0
        preempting = [len(scheduler.preempt(0).rows) for _ in range(num_pauses)]
        looks[num_tenants] = Counted.looked_at
        assert sum(preempting) == BUDGET // 15
    assert looks[20] == looks[2_000] <= BUDGET // 15 + num_pauses
