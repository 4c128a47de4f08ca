"""Task specifications: what is kept, what is refused, and the way through JSON."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters import InvalidRow, Label, TaskSpec
from adapters.task import MAX_LABELS, MAX_TASK_TOKENS

LABELS = {"negative": "bad", "positive": "good"}
visible = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)


def spec(**changes: object) -> TaskSpec:
    return TaskSpec.model_validate({"template": "text: {text}", "labels": LABELS, **changes})


def named(*names: str) -> dict[str, str]:
    return {name: f"word {i}" for i, name in enumerate(names)}


@pytest.mark.parametrize("names", list(itertools.permutations(["zebra", "apple", "mango"])))
def test_label_order_is_kept_from_a_mapping_and_from_a_list(names: tuple[str, ...]) -> None:
    mapping = {name: name.upper() for name in names}
    from_mapping = spec(labels=mapping)
    from_list = spec(labels=[{"name": name, "words": words} for name, words in mapping.items()])
    assert from_mapping.label_names == names
    assert from_mapping.label_words == tuple(name.upper() for name in names)
    assert from_mapping == from_list


def test_specs_with_their_labels_in_another_order_are_not_equal() -> None:
    assert spec(labels=LABELS) != spec(labels=dict(reversed(LABELS.items())))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([Label(name="a", words="x"), Label(name="a", words="y")], "label name 'a' appears twice"),
        ([Label(name="a", words="x"), Label(name="b", words="x")], "label words 'x' appears twice"),
    ],
)
def test_duplicate_labels_are_refused_with_the_value(labels: list[Label], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(labels=labels)


def test_two_labels_may_differ_in_case_alone() -> None:
    assert spec(labels={"a": "x", "A": "X"}).label_names == ("a", "A")


@pytest.mark.parametrize("value", [" ", "\t", "\u00a0", "\u3000", "a\nb", "a\x00", "a\x1b[31m", "a\u200bb", "\u202eab"])
def test_a_blank_label_or_one_with_control_characters_is_refused(value: str) -> None:
    for labels, what in (({value: "x", "b": "y"}, "name"), ({"a": value, "b": "y"}, "words")):
        with pytest.raises(ValidationError, match=f"label {what} .* is blank or has control characters"):
            spec(labels=labels)


@pytest.mark.parametrize("labels", [{"": "x", "b": "y"}, {"a": "", "b": "y"}, {"a" * 129: "x", "b": "y"}])
def test_an_empty_or_overlong_label_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="should have at"):
        spec(labels=labels)


def test_label_names_and_words_may_be_as_long_as_their_limits() -> None:
    longest = spec(labels={"n" * 128: "w" * 512, "b": "y"})
    assert longest.label_names[0] == "n" * 128
    with pytest.raises(ValidationError, match="at most 512 characters"):
        spec(labels={"a": "w" * 513, "b": "y"})


@pytest.mark.parametrize("count", [0, 1, MAX_LABELS + 1])
def test_too_few_and_too_many_labels_are_refused(count: int) -> None:
    with pytest.raises(ValidationError, match=f"got {count}|at most {MAX_LABELS}|at least 2"):
        spec(labels=named(*map(str, range(count))))


@pytest.mark.parametrize("count", [2, MAX_LABELS])
def test_the_smallest_and_the_largest_label_set_are_taken(count: int) -> None:
    assert len(spec(labels=named(*map(str, range(count)))).labels) == count


@pytest.mark.parametrize("labels", ["yes no", 3, None, [["a", "x"], ["b", "y"]], ["a", "b"], {"a": 1, "b": 2}])
def test_labels_of_another_form_are_refused(labels: object) -> None:
    with pytest.raises(ValidationError):
        spec(labels=labels)


@pytest.mark.parametrize("max_tokens", [2, MAX_TASK_TOKENS])
def test_max_tokens_reaches_its_bounds(max_tokens: int) -> None:
    assert spec(max_tokens=max_tokens).max_tokens == max_tokens


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 1},
        {"max_tokens": MAX_TASK_TOKENS + 1},
        {"max_tokens": 2.5},
        {"truncation_side": "middle"},
        {"kind": "several_labels"},
        {"surprise": 1},
        {"template": "no field"},
        {"template": "{a.b}"},
        {"template": None},
        {"labels": [{"name": "a", "words": "x", "more": 1}, {"name": "b", "words": "y"}]},
    ],
)
def test_a_value_out_of_bounds_and_an_unknown_key_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize("names", [("0", "1"), ("-1.5", "0", "2e3"), ("0.0", "0.2", "0.4", "5.0")])
def test_ordinal_labels_are_numbers_in_rising_order(names: tuple[str, ...]) -> None:
    assert spec(kind="ordinal", labels=named(*names)).label_names == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("0", "high"), "label 'high' of an ordinal task is not a number"),
        (("1", "0"), "must ascend, '0' does not"),
        (("1", "1.0"), "must ascend, '1.0' does not"),
        (("0", "nan"), "must ascend, 'nan' does not"),
        (("0", "inf"), "must ascend, 'inf' does not"),
        (("-inf", "0"), "must ascend, '-inf' does not"),
    ],
)
def test_an_ordinal_grid_that_does_not_rise_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(kind="ordinal", labels=named(*names))


def test_the_same_labels_are_fine_where_no_order_is_meant() -> None:
    assert spec(labels=named("1", "0")).kind == "single_label"


def test_a_spec_cannot_be_changed() -> None:
    task = spec()
    with pytest.raises(ValidationError, match="frozen"):
        task.max_tokens = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        task.labels[0].name = "other"  # type: ignore[misc]


def test_a_spec_that_was_used_is_still_equal_to_one_that_was_not() -> None:
    used, fresh = spec(), spec()
    assert used.render("so") == "text: so"
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert used.model_dump_json() == fresh.model_dump_json()


def test_rendering_goes_by_the_template() -> None:
    pair = spec(template="premise: {premise} hypothesis: {hypothesis}")
    assert pair.fields == ("premise", "hypothesis")
    assert pair.render({"hypothesis": "h", "premise": "p"}) == "premise: p hypothesis: h"
    with pytest.raises(InvalidRow):
        pair.render("p")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(visible, visible), min_size=2, max_size=8, unique_by=(lambda x: x[0], lambda x: x[1])),
    st.integers(2, MAX_TASK_TOKENS),
    st.sampled_from(["start", "end"]),
)
def test_a_spec_comes_back_equal_through_json(labels: list[tuple[str, str]], max_tokens: int, side: str) -> None:
    task = spec(labels=dict(labels), max_tokens=max_tokens, truncation_side=side)
    back = TaskSpec.model_validate_json(task.model_dump_json())
    assert back == task
    assert back.label_names == tuple(name for name, _ in labels)
    assert TaskSpec.model_validate(json.loads(json.dumps(task.model_dump(mode="json"), sort_keys=True))) == task
