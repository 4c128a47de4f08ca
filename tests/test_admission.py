"""Admission: how much may be in the server at once, and that every place is given back."""

from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.admission import Admission
from service.errors import QueueFull


def test_rows_and_tokens_are_held_while_the_work_lasts_and_given_back_after() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit(rows=3, tokens=30):
        with admission.admit(rows=7, tokens=70):
            assert (admission.rows, admission.tokens) == (10, 100)
        assert (admission.rows, admission.tokens) == (3, 30)
    assert (admission.rows, admission.tokens) == (0, 0)


def test_a_row_too_many_is_refused_and_holds_nothing() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit(rows=8, tokens=10):
        with pytest.raises(QueueFull, match="8 rows wait already, the server takes 10") as caught:
            admission.admit(rows=3, tokens=1).__enter__()
        assert caught.value.retry_after_s >= 1
        assert (admission.rows, admission.tokens) == (8, 10)


def test_a_token_too_many_is_refused_and_holds_nothing() -> None:
    admission = Admission(max_rows=10, max_tokens=100)
    with admission.admit(rows=1, tokens=90):
        with pytest.raises(QueueFull, match="90 tokens wait already, the server takes 100"):
            admission.admit(rows=1, tokens=11).__enter__()
        assert (admission.rows, admission.tokens) == (1, 90)


def test_what_fits_exactly_is_taken() -> None:
    admission = Admission(max_rows=2, max_tokens=20)
    with admission.admit(rows=1, tokens=10), admission.admit(rows=1, tokens=10):
        assert (admission.rows, admission.tokens) == (2, 20)


def test_a_request_alone_is_taken_however_large() -> None:
    admission = Admission(max_rows=2, max_tokens=20)
    with admission.admit(rows=64, tokens=5_000):
        with pytest.raises(QueueFull, match="64 rows wait already"):
            admission.admit(rows=1, tokens=1).__enter__()
        assert (admission.rows, admission.tokens) == (64, 5_000)
    with admission.admit(rows=64, tokens=5_000):
        assert admission.rows == 64


def test_a_place_is_given_back_where_the_work_fails() -> None:
    admission = Admission(max_rows=1, max_tokens=10)
    with pytest.raises(RuntimeError, match="broken"), admission.admit(rows=1, tokens=10):
        raise RuntimeError("broken")
    assert (admission.rows, admission.tokens) == (0, 0)
    with admission.admit(rows=1, tokens=10):
        assert admission.rows == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 80)), max_size=30),
    st.integers(1, 20),
    st.integers(1, 200),
    st.randoms(use_true_random=False),
)
def test_no_order_of_requests_passes_the_bounds_or_leaves_a_place_taken(
    requests: list[tuple[int, int]], max_rows: int, max_tokens: int, random: Random
) -> None:
    admission = Admission(max_rows=max_rows, max_tokens=max_tokens)
    held: list[tuple[int, int, ExitStack]] = []
    for rows, tokens in requests:
        fits = not held or (admission.rows + rows <= max_rows and admission.tokens + tokens <= max_tokens)
        stack = ExitStack()
        if fits:
            stack.enter_context(admission.admit(rows=rows, tokens=tokens))
            held.append((rows, tokens, stack))
        else:
            with pytest.raises(QueueFull):
                stack.enter_context(admission.admit(rows=rows, tokens=tokens))
        assert (admission.rows, admission.tokens) == (sum(r for r, _, _ in held), sum(t for _, t, _ in held))
        if held and random.random() < 0.4:
            held.pop(random.randrange(len(held)))[2].close()
    for _, _, stack in held:
        stack.close()
    assert (admission.rows, admission.tokens) == (0, 0)
