"""Admission: how much may be in the server at once, of whom, and that every place is given back."""

from contextlib import ExitStack, suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import QueueFull
from service.inference.admission import ALPHA, Admission


def hold(admission: Admission, tenant: str, *, rows: int = 1, tokens: int = 1) -> ExitStack:
    """Admit a request; its place is held until the stack is closed, or dropped."""
    stack = ExitStack()
    stack.enter_context(admission.admit(tenant, rows=rows, tokens=tokens))
    return stack


def flood(admission: Admission, tenant: str) -> list[ExitStack]:
    """Admit single rows until one is refused; their places."""
    held: list[ExitStack] = []
    with suppress(QueueFull):
        while len(held) < 10_000:
            held.append(hold(admission, tenant))
    assert len(held) < 10_000, "never refused"
    return held


def test_rows_and_tokens_are_held_while_the_work_lasts_and_given_back_after() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit("a", rows=3, tokens=30):
        with admission.admit("b", rows=7, tokens=70):
            assert (admission.rows, admission.tokens) == (10, 100)
        assert (admission.rows, admission.tokens) == (3, 30)
    assert (admission.rows, admission.tokens) == (0, 0)


def test_a_row_too_many_for_the_server_is_refused_and_holds_nothing() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit("a", rows=6, tokens=10), admission.admit("b", rows=2, tokens=10):
        with pytest.raises(QueueFull, match="8 rows are queued; the server accepts 10") as caught:
            hold(admission, "c", rows=3)
        assert caught.value.retry_after_s >= 1
        assert (admission.rows, admission.tokens) == (8, 20)


def test_a_token_too_many_for_the_server_is_refused_and_holds_nothing() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit("a", rows=1, tokens=60), admission.admit("b", rows=1, tokens=30):
        with pytest.raises(QueueFull, match="90 tokens are queued; the server accepts 100"):
            hold(admission, "c", tokens=11)
        assert (admission.rows, admission.tokens) == (2, 90)


@pytest.mark.parametrize("what", ["rows", "tokens"])
def test_what_is_too_much_for_a_tenant_is_refused_in_its_own_name_and_taken_of_another(what: str) -> None:
    admission = Admission(max_rows=90, max_tokens=90) if what == "rows" else Admission(max_rows=10_000, max_tokens=90)
    held = flood(admission, "greedy")
    assert len(held) == 60
    with pytest.raises(QueueFull, match=f"tenant 'greedy' has 60 {what} queued"):
        hold(admission, "greedy")
    with admission.admit("modest", rows=1, tokens=1):
        assert admission.rows == 61


def test_a_tenant_may_hold_its_share_exactly() -> None:
    admission = Admission(max_rows=9, max_tokens=1_000)
    with admission.admit("a", rows=4, tokens=1), admission.admit("a", rows=2, tokens=1):
        assert admission.rows == 6
        with pytest.raises(QueueFull):
            hold(admission, "a")


def test_a_request_alone_is_taken_however_large_and_leaves_room_for_others() -> None:
    admission = Admission(max_rows=9, max_tokens=90)
    with admission.admit("a", rows=64, tokens=5_000):
        assert (admission.rows, admission.tokens) == (64, 5_000)
        with pytest.raises(QueueFull, match=r"tenant 'a' has \d+ \w+ queued"):
            hold(admission, "a")
        with admission.admit("b", rows=3, tokens=30):
            assert (admission.rows, admission.tokens) == (67, 5_030)
    with admission.admit("b", rows=64, tokens=5_000):
        assert admission.rows == 64


def test_a_request_larger_than_its_share_is_taken_where_its_tenant_holds_nothing_and_there_is_room() -> None:
    admission = Admission(max_rows=900, max_tokens=10**6)
    held = flood(admission, "greedy")
    assert len(held) == 600
    with admission.admit("modest", rows=300, tokens=1):
        assert admission.rows == 900


def test_a_share_grows_again_as_the_others_end() -> None:
    admission = Admission(max_rows=90, max_tokens=1_000)
    first = flood(admission, "a")
    second = flood(admission, "b")
    assert (len(first), len(second)) == (60, 20)
    for place in first:
        place.close()
    assert len(flood(admission, "b")) == 40


def test_a_place_is_given_back_where_the_work_fails() -> None:
    admission = Admission(max_rows=1, max_tokens=10)
    with pytest.raises(RuntimeError, match="broken"), admission.admit("a", rows=1, tokens=10):
        raise RuntimeError("broken")
    assert (admission.rows, admission.tokens) == (0, 0)
    with admission.admit("b", rows=1, tokens=10):
        assert admission.rows == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 256), st.lists(st.integers(1, 512), min_size=1, max_size=20), st.integers(0, 999))
def test_whatever_one_tenant_floods_with_another_may_hold_a_third_of_the_room(
    rows: int, tokens: list[int], seed: int
) -> None:
    random = Random(seed)
    admission = Admission(max_rows=1_024, max_tokens=32_768)
    held: list[ExitStack] = []
    for _ in range(100):
        with suppress(QueueFull):
            held.append(hold(admission, "flood", rows=rows, tokens=rows * random.choice(tokens)))
        with admission.admit("modest", rows=341, tokens=10_922):
            assert held
        if random.random() < 0.2:
            held.pop(random.randrange(len(held))).close()


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 10), st.integers(0, 999))
@pytest.mark.slow
def test_beside_many_floods_one_that_holds_nothing_is_taken_once_the_queue_has_turned_over(
    num_floods: int, seed: int
) -> None:
    """The floods settle at the same share each, α ÷ (1 + α · floods) of the room, and leave half of that free."""
    random = Random(seed)
    admission = Admission(max_rows=210, max_tokens=10**6)
    held = {f"flood {number}": flood(admission, f"flood {number}") for number in range(num_floods)}
    free: list[int] = []
    for step in range(6_000):
        places = held[random.choice([tenant for tenant, places in held.items() if places])]
        places.pop(0).close()
        tenant = f"flood {random.randrange(num_floods)}"
        with suppress(QueueFull):
            held[tenant].append(hold(admission, tenant))
        if step >= 3_000:
            free.append(210 - admission.rows)
    assert min(free) >= 210 // (1 + ALPHA * num_floods) - 1 > 0


requests = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8), st.integers(1, 80)), max_size=30)


@settings(max_examples=100, deadline=None)
@given(requests, st.integers(1, 20), st.integers(1, 200), st.randoms(use_true_random=False))
def test_no_order_of_requests_passes_the_bounds_or_leaves_a_place_taken(
    requests: list[tuple[str, int, int]], max_rows: int, max_tokens: int, random: Random
) -> None:
    admission = Admission(max_rows=max_rows, max_tokens=max_tokens)
    limits = (max_rows, max_tokens)
    held: list[tuple[str, tuple[int, int], tuple[int, int], ExitStack]] = []
    for tenant, *asked in requests:
        counted = tuple(
            min(more, max(1, ALPHA * limit // (1 + ALPHA))) for more, limit in zip(asked, limits, strict=True)
        )
        fits = True
        for i in (0, 1):
            own = sum(counts[i] for name, _, counts, _ in held if name == tenant)
            free = limits[i] - sum(counts[i] for _, _, counts, _ in held)
            fits &= counted[i] <= free and (own == 0 or own + counted[i] <= ALPHA * (free - counted[i]))
        stack = ExitStack()
        if fits:
            stack.enter_context(admission.admit(tenant, rows=asked[0], tokens=asked[1]))
            held.append((tenant, (asked[0], asked[1]), (counted[0], counted[1]), stack))
        else:
            with pytest.raises(QueueFull):
                stack.enter_context(admission.admit(tenant, rows=asked[0], tokens=asked[1]))
        assert (admission.rows, admission.tokens) == tuple(sum(real[i] for _, real, _, _ in held) for i in (0, 1))
        if held and random.random() < 0.4:
            held.pop(random.randrange(len(held)))[3].close()
    for *_, stack in held:
        stack.close()
    assert (admission.rows, admission.tokens) == (0, 0)
    with admission.admit("a", rows=max_rows, tokens=max_tokens):
        assert admission.rows == max_rows


@pytest.mark.parametrize(("weight", "share"), [(0.5, 50), (1.0, 66), (2.0, 80), (100.0, 99)])
def test_a_tenants_share_of_the_room_goes_by_its_weight(weight: float, share: int) -> None:
    admission = Admission(max_rows=100, max_tokens=10**6)
    with ExitStack() as held:
        with pytest.raises(QueueFull, match="tenant 'a'"):  # noqa: PT012
            for _ in range(101):
                held.enter_context(admission.admit("a", rows=1, tokens=1, weight=weight))
        assert admission.rows == share
        with admission.admit("b", rows=1, tokens=1, weight=0.01):
            pass
