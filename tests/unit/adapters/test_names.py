"""Names, aliases and refs: what is taken, what is refused, and with which words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import InvalidName
from adapters.names import NAME_PATTERN, NAME_RULE, PRODUCTION, Ref, check_alias, check_name

DIGEST = "sha256:" + "0123456789abcdef" * 4
BAD_NAMES = [
    "",
    " ",
    ".hidden",
    "-dash",
    "_under",
    "..",
    "Upper",
    "with space",
    "a/b",
    "../../etc",
    "a\\b",
    "a@b",
    "a:b",
    "a*",
    "naïve",
    "٣",
    "sst2\n",
    "sst2\x00",
    "a" * 65,
]

names = st.from_regex(NAME_PATTERN, fullmatch=True)


@pytest.mark.parametrize("name", ["a", "7", "sst2", "ag_news", "v1.2-rc_3", "0.", "a" * 64])
def test_a_well_formed_name_comes_back_unchanged(name: str) -> None:
    assert check_name("task", name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_pattern_is_refused_with_its_kind_and_value(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("tenant", name)
    assert (caught.value.kind, caught.value.value, caught.value.expected) == ("tenant", name, NAME_RULE)
    assert str(caught.value) == f"tenant {name!r} is not valid, expected {NAME_RULE}"


@pytest.mark.parametrize("alias", ["production", "canary", "v2", "2nd", "1.0", "0-a"])
def test_an_alias_is_any_name_that_is_no_number(alias: str) -> None:
    assert check_alias(alias) == alias


@pytest.mark.parametrize("alias", ["0", "3", "007", "1234567890", "9" * 64])
def test_an_alias_that_reads_as_a_number_is_refused(alias: str) -> None:
    with pytest.raises(InvalidName, match="expected a name that is not a number") as caught:
        check_alias(alias)
    assert (caught.value.kind, caught.value.value) == ("alias", alias)


@pytest.mark.parametrize("alias", BAD_NAMES)
def test_an_alias_outside_the_name_pattern_is_refused(alias: str) -> None:
    with pytest.raises(InvalidName, match="alias"):
        check_alias(alias)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("sst2", Ref("sst2", alias=PRODUCTION)),
        ("sst2@1", Ref("sst2", version=1)),
        ("sst2@999999999", Ref("sst2", version=999_999_999)),
        ("sst2@canary", Ref("sst2", alias="canary")),
        ("sst2@2nd", Ref("sst2", alias="2nd")),
        ("sst2@sha256", Ref("sst2", alias="sha256")),
        (f"sst2@{DIGEST}", Ref("sst2", digest=DIGEST)),
        (f"sst2@{DIGEST[:19]}", Ref("sst2", digest=DIGEST[:19])),
        ("7@7", Ref("7", version=7)),
    ],
)
def test_a_ref_is_read_in_each_of_its_forms(text: str, ref: Ref) -> None:
    assert Ref.parse(text) == ref


@pytest.mark.parametrize(
    "selector",
    [
        "",
        "0",
        "007",
        "-1",
        "+1",
        "1 ",
        " 1",
        "1\n",
        "٣",
        "1234567890",
        "Canary",
        "a@b",
        "a/b",
        "sha256:",
        "sha256:abcdef01234",
        "sha256:ABCDEF012345",
        "sha256:abcdef01234g",
        DIGEST + "0",
        "md5:0123456789abcdef",
        "a" * 65,
    ],
)
def test_a_selector_of_no_form_is_refused_with_the_whole_ref(selector: str) -> None:
    text = f"sst2@{selector}"
    with pytest.raises(InvalidName, match="task@version, task@alias or task@sha256:") as caught:
        Ref.parse(text)
    assert (caught.value.kind, caught.value.value) == ("ref", text)


@pytest.mark.parametrize("task", BAD_NAMES)
def test_a_ref_to_a_badly_named_task_is_refused(task: str) -> None:
    with pytest.raises(InvalidName):
        Ref.parse(f"{task}@3")


def test_a_bare_task_means_production() -> None:
    assert Ref.parse("sst2") == Ref.parse("sst2@production")


@settings(max_examples=100, deadline=None)
@given(
    names,
    st.one_of(
        st.integers(1, 999_999_999).map(str),
        names.filter(lambda name: not name.isdecimal()),
        st.from_regex(r"sha256:[0-9a-f]{12,64}", fullmatch=True),
    ),
)
@pytest.mark.slow
def test_a_ref_spelled_out_reads_back_the_same_and_sets_one_selector(task: str, selector: str) -> None:
    ref = Ref.parse(f"{task}@{selector}")
    assert str(ref) == f"{task}@{selector}"
    assert Ref.parse(str(ref)) == ref
    assert sum(part is not None for part in (ref.version, ref.alias, ref.digest)) == 1


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_a_ref_or_an_invalid_name_and_nothing_else(text: str) -> None:
    try:
        ref = Ref.parse(text)
    except InvalidName as exc:
        assert exc.value in text  # noqa: PT017 - either outcome is right, each with its own promise
    else:
        assert text in {ref.task, str(ref)}
