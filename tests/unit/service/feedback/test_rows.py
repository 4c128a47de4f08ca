"""Kept answers and corrections: one contract, both stores, a real Redis."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from adapters import NotFound
from adapters.storage.opening import open_storage
from service.errors import QuotaExceeded
from service.feedback.models import (
    CORRECTED,
    KEPT,
    Edit,
    FeedbackRow,
    GivenAnswer,
    Label,
    Place,
    ShadowAnswer,
    View,
    request_list,
    size_bytes,
    view_list,
)
from service.feedback.rows import FeedbackRows, Flip, open_feedback

MANY = 1 << 20


@pytest.fixture
def rows(place: str) -> FeedbackRows:
    return open_feedback(open_storage(place))


def row_id(number: int) -> str:
    return f"{number:024x}"


def answered(number: int, text: str, score: float = 0.5, *, label: str = "positive", task: str = "sst2") -> FeedbackRow:
    """An answer at the second of its number."""
    answer = GivenAnswer(1, label, score)
    return FeedbackRow(row_id(number), task, {"text": text}, float(number), f"r{number}", 0, answer)


def correct(
    rows: FeedbackRows, row: FeedbackRow, label: Label = "negative", who: str | None = None, at: float = 100.0
) -> FeedbackRow:
    """Correct a row, stored or new, as somebody who has just read it."""
    find = rows.store.rows("acme", [row.id])
    return rows.correct("acme", lambda: find[0] if find else row, label=label, who=who, at=at, max_bytes=MANY)


def listed(rows: FeedbackRows, view: View, *, tenant: str = "acme", task: str = "sst2", limit: int = 100) -> list[str]:
    """The texts of a view, read in pages."""
    name, after, found = view_list(view, task), None, list[str]()
    while page := rows.store.page(tenant, name, after=after, limit=limit):
        found += [row.input["text"] for row in page]
        after = Place.of(page[-1], name)
    return found


def check_bytes(rows: FeedbackRows, tenant: str = "acme") -> None:
    """The state's bytes are those of the rows."""
    state = rows.store.state(tenant)
    for name, found in ((KEPT, state.kept_bytes), (CORRECTED, state.corrected_bytes)):
        assert found == sum(map(size_bytes, rows.store.page(tenant, name, limit=1_000)))


def test_an_empty_store_has_nothing(rows: FeedbackRows) -> None:
    assert rows.store.page("acme", KEPT, limit=10) == []
    assert rows.store.first("acme", ["a", "b"]) == [None, None]
    assert rows.store.counts("acme", [KEPT, CORRECTED]) == [0, 0]
    assert rows.store.datasets("acme") == {}
    assert list(rows.store.tenants()) == []
    assert rows.remove("acme", lambda _: True) == 0


def test_answers_are_listed_by_confidence_in_pages_of_any_size(rows: FeedbackRows) -> None:
    scores = [0.9, 0.5, 0.5, 0.5, 0.1, 0.7]
    rows.keep("acme", [answered(n, f"text {n}", score) for n, score in enumerate(scores)], max_bytes=MANY)
    rows.keep("acme", [answered(50, "elsewhere", task="topic")], max_bytes=MANY)
    rows.keep("zeta", [answered(51, "of zeta")], max_bytes=MANY)
    expected = [f"text {n}" for n in (4, 1, 2, 3, 5, 0)]
    for limit in (1, 2, 3, 100):
        assert listed(rows, "least_confident", limit=limit) == expected
    assert listed(rows, "least_confident", task="topic") == ["elsewhere"]
    assert sorted(rows.store.tenants()) == ["acme", "zeta"]
    check_bytes(rows)


def test_a_page_begins_after_a_row_that_has_left_the_list(rows: FeedbackRows) -> None:
    made = [answered(n, f"text {n}") for n in range(4)]
    rows.keep("acme", made, max_bytes=MANY)
    name = view_list("least_confident", "sst2")
    after = Place.of(made[1], name)
    correct(rows, made[1])
    assert [row.id for row in rows.store.page("acme", name, after=after, limit=10)] == [made[2].id, made[3].id]
    assert len(rows.store.page("acme", name, limit=10)) == 3


def test_a_correction_leaves_the_queue_and_is_wrong_only_where_it_differs(rows: FeedbackRows) -> None:
    made = [answered(n, f"text {n}") for n in range(3)]
    rows.keep("acme", made, max_bytes=MANY)
    correct(rows, made[0], "negative", at=101)
    correct(rows, made[1], "positive", at=102)
    correct(rows, FeedbackRow(row_id(9), "sst2", {"text": "new"}, 9.0), "positive", at=103)
    assert listed(rows, "least_confident") == ["text 2"]
    assert listed(rows, "reported_wrong") == ["new", "text 0"]
    assert listed(rows, "corrections") == ["new", "text 1", "text 0"]
    [found] = rows.store.rows("acme", [made[0].id])
    assert (found.label, found.answer, found.corrected_at) == ("negative", made[0].answer, 101)
    check_bytes(rows)


def test_a_text_is_listed_once_and_every_request_still_finds_it(rows: FeedbackRows) -> None:
    first, again, later = answered(1, "same", 0.3), answered(2, "same", 0.4), answered(3, "same", 0.6)
    rows.keep("acme", [first, again], max_bytes=MANY)
    rows.keep("acme", [later, answered(4, "other", 0.9)], max_bytes=MANY)
    assert listed(rows, "least_confident") == ["same", "other"]
    assert rows.store.page("acme", view_list("least_confident", "sst2"), limit=1)[0].id == later.id
    for row in (first, again, later):
        assert [found.id for found in rows.store.page("acme", request_list(str(row.request_id)), limit=9)] == [row.id]
    correct(rows, first)
    assert listed(rows, "least_confident") == ["other"]
    rows.keep("acme", [answered(5, "same", 0.1)], max_bytes=MANY)
    assert listed(rows, "least_confident") == ["other"], "a corrected text comes back"
    correct(rows, again, "positive", at=200)
    assert listed(rows, "corrections") == ["same"], "the later correction replaces the earlier one"
    assert rows.store.page("acme", CORRECTED, limit=9)[0].label == "positive"
    check_bytes(rows)


def test_the_labels_of_a_multi_label_text_are_kept_apart_from_one_label(rows: FeedbackRows) -> None:
    for number, label in enumerate([("a", "b"), (), ("a",), "a"]):
        made = FeedbackRow(row_id(number), "tags", {"text": str(number)}, 1.0)
        assert correct(rows, made, label).label == label
        assert rows.store.rows("acme", [made.id])[0].label == label


def test_a_shadows_flip_is_noted_on_its_own_row_alone(rows: FeedbackRows) -> None:
    shadow = ShadowAnswer(2, "negative")
    first, reused = answered(1, "a text"), answered(2, "another")
    rows.keep("acme", [first], max_bytes=MANY)
    reused = FeedbackRow(reused.id, "sst2", {"text": "another"}, 2.0, first.request_id, 0, reused.answer)
    rows.keep("acme", [reused], max_bytes=MANY)  # a client that sends one request id with everything
    flips = [Flip("r1", 0, "sst2", ("a text",), shadow), Flip("gone", 0, "sst2", ("a text",), shadow)]
    rows.flip("acme", flips)
    assert listed(rows, "shadow_flips") == ["a text"]
    assert listed(rows, "least_confident") == ["a text", "another"]
    correct(rows, first)
    assert listed(rows, "shadow_flips") == []
    assert rows.store.rows("acme", [first.id])[0].shadow == shadow
    check_bytes(rows)


def test_kept_answers_are_a_ring_in_half_of_the_bytes(rows: FeedbackRows) -> None:
    size = size_bytes(answered(1, "text 00"))
    for start in (0, 3, 6):
        batch = [answered(start + n, f"text {start + n:02}") for n in range(3)]
        rows.keep("acme", batch, max_bytes=10 * size + 100)
    assert sorted(listed(rows, "least_confident")) == [f"text {n:02}" for n in range(4, 9)]
    rows.keep("acme", [answered(100 + n, f"much {n:02}") for n in range(20)], max_bytes=10 * size + 100)
    assert len(listed(rows, "least_confident")) <= 5
    assert "much 19" in listed(rows, "least_confident")
    check_bytes(rows)


def test_corrections_displace_kept_answers_and_end_at_the_bytes(rows: FeedbackRows) -> None:
    rows.keep("acme", [answered(n, f"text {n}") for n in range(5)], max_bytes=12_000)

    def add(number: int) -> None:
        made = FeedbackRow(row_id(100 + number), "sst2", {"text": f"correction {number}"}, 1.0)
        rows.correct("acme", lambda: made, label="negative", who=None, at=1.0, max_bytes=12_000)

    def add_many() -> None:
        for number in range(100):
            add(number)

    with pytest.raises(QuotaExceeded, match=r"tenant 'acme' would have \d+ bytes of corrections, its limit is 12000"):
        add_many()
    state = rows.store.state("acme")
    assert state.kept_bytes + state.corrected_bytes <= 12_000
    assert state.corrected_bytes > 11_000
    assert rows.store.counts("acme", [KEPT]) == [0]
    check_bytes(rows)


def test_a_person_is_deleted_wherever_they_are_and_no_one_else(rows: FeedbackRows) -> None:
    made = [
        FeedbackRow(row_id(n), "sst2", {"text": f"{n}"}, float(n), label="negative", who=("bob", "ann")[n % 2])
        for n in range(1_100)
    ]
    assert rows.store.write("acme", Edit(added=made), expected=0)
    rows.correct(
        "zeta",
        lambda: FeedbackRow(row_id(1), "sst2", {"text": "of zeta"}, 1.0),
        label="a",
        who="ann",
        at=1.0,
        max_bytes=MANY,
    )
    assert rows.remove("acme", lambda row: row.who == "ann") == 550
    assert {row.who for row in rows.store.page("acme", CORRECTED, limit=2_000)} == {"bob"}
    assert listed(rows, "corrections", tenant="zeta") == ["of zeta"]
    assert rows.remove_ids("acme", [row_id(0), row_id(2), row_id(5_000)]) == 2
    assert rows.remove("acme", lambda _: True) == 548
    assert rows.store.state("acme").corrected_bytes == 0


def test_rows_expire_by_the_time_at_which_their_text_came(rows: FeedbackRows) -> None:
    made = [answered(n, f"text {n}") for n in range(6)]
    rows.keep("acme", made, max_bytes=MANY)
    correct(rows, made[0], at=1_000)
    correct(rows, made[5], at=1_000)
    assert rows.expire("acme", before=3.0) == 3
    assert sorted(listed(rows, "least_confident") + listed(rows, "corrections")) == ["text 3", "text 4", "text 5"]
    check_bytes(rows)


def test_the_version_of_a_data_set_changes_with_its_corrections_only(rows: FeedbackRows) -> None:
    made = answered(1, "a text")
    rows.keep("acme", [made, answered(2, "another", task="topic")], max_bytes=MANY)
    assert rows.store.datasets("acme") == {}
    correct(rows, made)
    correct(rows, made, "positive")
    assert rows.store.datasets("acme") == {"sst2": 2}
    rows.remove_ids("acme", [made.id, row_id(2)])
    assert rows.store.datasets("acme") == {"sst2": 3}, "a version is never used again"


def test_writers_at_once_lose_nothing_and_count_right(place: str) -> None:
    def write(writer: int) -> None:
        own = open_feedback(open_storage(place))
        for number in range(10):
            at = 100 * writer + number
            own.keep("acme", [answered(at, f"kept {at}"), answered(50 + at, f"more {at}")], max_bytes=MANY)
            correct(own, answered(at, f"kept {at}"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    rows = open_feedback(open_storage(place))
    assert rows.store.counts("acme", [KEPT, CORRECTED]) == [40, 40]
    assert rows.store.datasets("acme") == {"sst2": 40}
    check_bytes(rows)


def test_what_find_raises_changes_nothing(rows: FeedbackRows) -> None:
    def find() -> FeedbackRow:
        raise NotFound("no row")

    before = rows.store.state("acme")
    with pytest.raises(NotFound):
        rows.correct("acme", find, label="a", who=None, at=1.0, max_bytes=MANY)
    assert rows.store.state("acme") == before


def contents(folder: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()]


def test_a_deleted_text_leaves_the_sqlite_file(tmp_path: Path) -> None:
    rows = open_feedback(open_storage(str(tmp_path / "registry.sqlite")))
    rows.keep("acme", [answered(n, f"kept-secret-{n} " * 50) for n in range(20)], max_bytes=MANY)
    correct(rows, FeedbackRow(row_id(99), "sst2", {"text": "said-secret"}, 1.0), who="ann-secret")
    assert any(b"said-secret" in data for data in contents(tmp_path))
    rows.remove("acme", lambda _: True)
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM feedback_places").fetchone() == (0,)
    assert not any(b"-secret" in data for data in contents(tmp_path))
