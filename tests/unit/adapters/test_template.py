"""Templates: literal text and fields, and none of what `str.format` would have reached."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import InvalidRow, InvalidTask
from adapters.template import MAX_FIELDS, MAX_TEMPLATE_CHARS, Template

field_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True)
literals = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{text}", ("text",)),
        ("question: {question} sentence: {sentence}", ("question", "sentence")),
        ("{a}{b}{a}", ("a", "b")),
        ("{_x1} and {X}", ("_x1", "X")),
        ("{" + "f" * 64 + "}", ("f" * 64,)),
        ("{__class__}", ("__class__",)),
    ],
)
def test_fields_are_the_distinct_names_in_the_order_of_first_use(text: str, fields: tuple[str, ...]) -> None:
    assert Template.parse(text).fields == fields


@pytest.mark.parametrize(
    "text",
    [
        "{a.b}",
        "{a.__class__.__init__.__globals__}",
        "{a[0]}",
        "{a[key]}",
        "{0}",
        "{0.a}",
        "{}",
        "{a!r}",
        "{a!s:>10}",
        "{a:>10}",
        "{a:{b}}",
        "{{a}}",
        "{{",
        "}}",
        "{a} {{",
        "{a",
        "a}",
        "{a} }",
        "{ {a}",
        "{ a}",
        "{a }",
        "{a\n}",
        "{a-b}",
        "{1a}",
        "{é}",
        "{a}{b.c}",
        "{" + "f" * 65 + "}",
    ],
)
def test_a_brace_that_belongs_to_no_field_is_refused(text: str) -> None:
    with pytest.raises(InvalidTask, match="has a brace that is not part of a") as caught:
        Template.parse(text)
    assert repr(text) in str(caught.value)


def test_a_template_without_a_field_is_refused() -> None:
    with pytest.raises(InvalidTask, match=f"names 0 fields, expected 1 to {MAX_FIELDS}"):
        Template.parse("always the same")


def test_a_template_may_name_as_many_fields_as_the_limit_and_no_more() -> None:
    full = "".join(f"{{f{i}}}" for i in range(MAX_FIELDS))
    assert len(Template.parse(full).fields) == MAX_FIELDS
    with pytest.raises(InvalidTask, match=f"names {MAX_FIELDS + 1} fields"):
        Template.parse(full + "{more}")


def test_a_template_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = "{a}" + "x" * (MAX_TEMPLATE_CHARS - 3)
    assert Template.parse(longest).render("") == longest[3:]
    with pytest.raises(InvalidTask, match=f"has {MAX_TEMPLATE_CHARS + 1} characters"):
        Template.parse(longest + "x")


def test_a_plain_string_is_the_value_of_the_one_field() -> None:
    template = Template.parse("first: {text} again: {text}")
    assert template.render("so") == "first: so again: so"
    assert template.render("so") == template.render({"text": "so"})


def test_a_plain_string_for_several_fields_is_refused_with_their_names() -> None:
    with pytest.raises(InvalidRow, match="a plain string was given, the task needs an object with 'a', 'b'"):
        Template.parse("{a} {b}").render("text")


@pytest.mark.parametrize(
    ("item", "wrong"),
    [
        ({"a": "x"}, "missing field 'b'"),
        ({}, "missing field 'a'"),
        ({"a": "x", "b": "y", "c": "z"}, "unknown field 'c'"),
        ({"a": "x", "B": "y"}, "unknown field 'B'"),
    ],
)
def test_an_item_with_a_field_missing_or_too_many_is_refused(item: dict[str, str], wrong: str) -> None:
    with pytest.raises(InvalidRow, match=f"{wrong}, the task's fields are 'a', 'b'"):
        Template.parse("{a} {b}").render(item)


@pytest.mark.parametrize("value", [None, 3, 1.5, True, b"bytes", ["text"], {"text": "text"}])
def test_a_value_that_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidRow, match=r"field 'a' is .*, expected a string"):
        Template.parse("{a}").render({"a": value})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", ["{b}", "{a}", "{a.__class__}", "{{", "}", "{0}", "%s", "\\1", "$a", "\x00", ""])
def test_a_value_goes_in_verbatim(value: str) -> None:
    assert Template.parse("[{a}|{b}]").render({"a": value, "b": "fixed"}) == f"[{value}|fixed]"


@settings(max_examples=100, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_rendering_is_the_concatenation_of_literals_and_values(data: st.DataObject) -> None:
    names = data.draw(st.lists(field_names, min_size=1, max_size=MAX_FIELDS))
    texts = data.draw(st.lists(literals, min_size=len(names) + 1, max_size=len(names) + 1))
    values = {name: data.draw(st.text(max_size=20)) for name in names}
    template = Template.parse(
        texts[0] + "".join(f"{{{name}}}{text}" for name, text in zip(names, texts[1:], strict=True))
    )
    expected = texts[0] + "".join(values[name] + text for name, text in zip(names, texts[1:], strict=True))
    assert template.render(values) == expected
    assert template.fields == tuple(dict.fromkeys(names))


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("{}ab.[]!:0 _"), max_size=12))
def test_any_text_is_a_template_or_an_invalid_task_and_nothing_else(text: str) -> None:
    try:
        template = Template.parse(text)
    except InvalidTask:
        return
    rendered = template.render(dict.fromkeys(template.fields, "<>"))
    assert "{" not in rendered
    assert "}" not in rendered
    assert rendered.count("<>") == len(template.placeholders)
