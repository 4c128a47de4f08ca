"""`superpos data check`: every fault of a task's rows and labels, each by its place, and what the command answers."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cli import Answer, superpos
from support.data import Row, read_split, task_of, view_of, write_jsonl

from adapters import TaskSpec
from training.data.sources import locate
from training.data.validation.check import CheckedRows, check_rows
from training.data.validation.findings import Finding
from training.errors import InvalidData
from training.task.task_file import TaskFile

SPEC = TaskSpec(template="{text}", labels={"positive": "good", "negative": "bad", "neutral": "so so"}, max_tokens=8)
GOOD: list[Row] = [{"text": f"row {n}", "label": ["positive", "negative", "neutral"][n % 3]} for n in range(30)]


def letters(texts: Sequence[str]) -> list[list[int]]:
    """A piece a word, by its first letter: `sunny` and `sad` are spelt alike."""
    return [[ord(word[0]) for word in text.split()] for text in texts]


def check(task: TaskFile, refusal: str | None = None) -> CheckedRows:
    return check_rows(task, locate(task.data), view=view_of(letters, refusal))


def checked(
    folder: Path, train: Sequence[Row], validation: Sequence[Row] | None = None, spec: TaskSpec = SPEC
) -> dict[str, Finding]:
    """What is found in rows, by its code."""
    write_jsonl(folder / "train.jsonl", train)
    if validation is not None:
        write_jsonl(folder / "validation.jsonl", validation)
    task = task_of(folder / "train.jsonl", None if validation is None else folder / "validation.jsonl", spec=spec)
    return {each.code: each for each in check(task).findings}


def test_good_rows_have_no_fault(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD, [{"text": "another", "label": "positive"}]) == {}


# --- what training refuses


def test_every_bad_row_is_told_of_and_not_the_first_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_jsonl(path, [*GOOD, {"text": 5, "label": "positive"}, {"body": "a", "label": "positive"}, {"text": "b"}])
    with path.open("ab") as file:
        file.write(b'{"text": \n["a"]\n')
    found = {each.code: each for each in check(task_of(path, spec=SPEC)).findings}
    assert list(found) == ["bad-row"]
    assert (found["bad-row"].level, found["bad-row"].count) == ("error", 5)
    assert [example.split(": ")[1] for example in found["bad-row"].examples] == ["line 31", "line 32", "line 33"]


def test_a_csv_is_read_past_its_ragged_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n" + "".join(f"row {n},positive\n{n}\n" for n in range(20)))
    result = check(task_of(path, spec=SPEC))
    assert result.rows == {"train": 20}
    assert result.findings[0].count == 20
    assert result.findings[0].examples[0] == "train.csv: line 3: 1 column, expected 2 as in the header"


def test_unknown_labels_come_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    rows = [{"text": "x", "label": "weather"}, {"text": "y", "label": "postive"}, {"text": "z", "label": " Neutral"}]
    found = checked(tmp_path, [*GOOD, *rows])["unknown-label"]
    assert (found.level, found.count) == ("error", 3)
    assert found.examples == (
        "train.jsonl: line 32: 'postive', did you mean 'positive'?",
        "train.jsonl: line 33: ' Neutral', did you mean 'neutral'?",
        "train.jsonl: line 31: 'weather'",
    )


@pytest.mark.parametrize("count", [0, 5, 9, 10, 12])
def test_rows_are_too_few_exactly_where_training_says_so(tmp_path: Path, count: int) -> None:
    found = checked(tmp_path, GOOD[:count])
    task = task_of(tmp_path / "train.jsonl", spec=SPEC)
    if count >= 12:
        read_split(task, split="honest", seed=0)
        assert not {"too-few-rows", "no-rows"} & set(found)
    else:
        with pytest.raises(InvalidData):
            read_split(task, split="honest", seed=0)
        assert found["too-few-rows" if count else "no-rows"].level == "error"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_groups_are_too_few_where_whole_ones_cannot_be_held_out(tmp_path: Path, count: int) -> None:
    path = tmp_path / "train.jsonl"
    write_jsonl(path, [row | {"page": f"{n % count}"} for n, row in enumerate(GOOD)])
    found = {each.code: each for each in check(task_of(path, spec=SPEC, group="page")).findings}
    assert ("too-few-rows" in found) == (count < 3)


def test_a_file_that_is_not_there_is_a_fault_and_the_other_is_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "validation.jsonl", GOOD)
    task = task_of(tmp_path / "train.jsonl", tmp_path / "validation.jsonl", spec=SPEC)
    result = check(task)
    assert result.rows == {"train": 0, "validation": 30}
    assert result.findings[0].examples == ("train.jsonl: no such file",)


def test_label_words_that_the_backbone_cannot_tell_apart_are_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", GOOD)
    result = check(task_of(tmp_path / "train.jsonl", spec=SPEC), refusal="label words 1 is …")
    assert [(each.level, each.code) for each in result.findings] == [("error", "label-words")]
    assert result.num_errors == 1


# --- what training would learn badly from


def test_the_same_row_twice_is_a_duplicate_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    found = checked(tmp_path, [*GOOD, {"text": " ROW  0 ", "label": "positive"}])
    assert list(found) == ["duplicate-row"]
    assert found["duplicate-row"].examples == ("train.jsonl: line 31 repeats train.jsonl: line 1: 'ROW 0'",)


def test_the_same_text_under_another_label_is_a_conflict_also_across_files(tmp_path: Path) -> None:
    found = checked(tmp_path, [*GOOD, {"text": "row 0", "label": "negative"}], [{"text": "row 1", "label": "neutral"}])
    assert found["conflicting-row"].examples == (
        "train.jsonl: line 31 'negative', train.jsonl: line 1 'positive': 'row 0'",
        "validation.jsonl: line 1 'neutral', train.jsonl: line 2 'negative': 'row 1'",
    )


def test_validation_texts_among_the_training_rows_are_leaks(tmp_path: Path) -> None:
    validation = [{"text": text, "label": "positive"} for text in ("Row 3", "new", "row 6", "newer")]
    found = checked(tmp_path, GOOD, validation)
    assert (found["leakage"].count, found["leakage"].level) == (2, "warning")
    assert "50.0 %" in found["leakage"].message
    assert found["leakage"].examples[0] == "validation.jsonl: line 1 repeats train.jsonl: line 4: 'Row 3'"


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_empty_texts_are_told_of(tmp_path: Path, text: str) -> None:
    found = checked(tmp_path, [*GOOD, {"text": text, "label": "neutral"}])
    assert found["empty-text"].examples == (f"train.jsonl: line 31: field 'text' is {text!r}",)


@pytest.mark.parametrize("char", ["\x07", "\x80", "\ufeff", "\ufffd", "\u200b"])
def test_characters_that_nobody_typed_are_told_of(tmp_path: Path, char: str) -> None:
    found = checked(tmp_path, [*GOOD, {"text": f"odd{char}", "label": "neutral"}])
    assert f"line 31: U+{ord(char):04X}" in found["non-printable"].examples[0]


@pytest.mark.parametrize("text", ["two\nlines\tand more", "می‌خواهم", "👩‍🚀", "é"])
def test_what_people_do_type_is_not(tmp_path: Path, text: str) -> None:
    assert "non-printable" not in checked(tmp_path, [*GOOD, {"text": text, "label": "neutral"}])


def test_longer_texts_than_the_task_takes_are_counted(tmp_path: Path) -> None:
    long = [{"text": f"{n} " + "w " * 6, "label": "neutral"} for n in range(9)]  # 7 words and the end
    longer = {"text": "w " * 8, "label": "neutral"}
    found = checked(tmp_path, [*GOOD, *long, longer])["truncated"]
    assert (found.count, found.examples[0].split(",")[0]) == (1, "train.jsonl: line 40: 9 tokens")
    assert "2.5 % of the texts have more than 8 tokens" in found.message


def test_rare_and_absent_labels_are_told_of(tmp_path: Path) -> None:
    rows = [{"text": f"{n}", "label": "positive" if n else "negative"} for n in range(30)]
    found = checked(tmp_path, rows)
    assert found["label-without-rows"].examples == ("'neutral'",)
    assert "'positive' has 29 training rows (97 %), 'negative' 1" in found["imbalance"].message


def test_a_rare_label_that_is_spelt_like_a_common_one_may_be_its_typo(tmp_path: Path) -> None:
    spec = TaskSpec(template="{text}", labels={"acceptable": "a", "unacceptable": "u", "aceptable": "c"}, max_tokens=8)
    rows = [{"text": f"{n}", "label": ["acceptable", "unacceptable"][n % 2]} for n in range(60)]
    found = checked(tmp_path, [*rows, {"text": "x", "label": "aceptable"}], spec=spec)
    assert found["label-typo"].examples == ("'aceptable' (1 rows) may be 'acceptable' (30 rows)",)


def test_label_words_that_begin_alike_are_told_of(tmp_path: Path) -> None:
    spec = TaskSpec(template="{text}", labels={"a": "sunny", "b": "sad day", "c": "rain"}, max_tokens=8)
    rows = [{"text": f"{n}", "label": "abc"[n % 3]} for n in range(30)]
    found = checked(tmp_path, rows, spec=spec)
    assert found["shared-first-piece"].examples == ("'sunny', 'sad day'",)
    assert found["prefix-label"].examples == ("'sunny' is a prefix of 'sad day'",)


ANY_ROW = st.fixed_dictionaries(
    {},
    optional={"text": st.text(max_size=5) | st.none() | st.integers(), "label": st.sampled_from(["positive", "x", 1])},
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # drawing is slow on a busy machine
@given(bad=st.lists(ANY_ROW, max_size=3), good=st.integers(0, 20))
def test_whatever_the_rows_are_errors_are_found_exactly_where_training_refuses(bad: list[Row], good: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        write_jsonl(path, [*GOOD[:good], *bad])
        task = task_of(path, spec=SPEC)
        refused = False
        try:
            read_split(task, split="honest", seed=0)
        except InvalidData:
            refused = True
        assert bool(check(task).num_errors) == refused


# --- the command

TASK = """\
name: mood
template: "{text}"
labels: {positive: positive, negative: negative}
data: {train: train.jsonl, validation: validation.jsonl}
"""


def run_check(folder: Path, tiny_t5: Path, train: Sequence[Row], *options: str) -> Answer:
    (folder / "mood.yaml").write_text(TASK)
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "validation.jsonl", [{"text": "the film", "label": "positive"}])
    return superpos("data", "check", folder / "mood.yaml", "--backbone", tiny_t5, *options)


MOODS: list[Row] = [{"text": f"the city {n}", "label": ["positive", "negative"][n % 2]} for n in range(20)]


def test_rows_without_fault_end_with_status_0(tmp_path: Path, tiny_t5: Path) -> None:
    answer = run_check(tmp_path, tiny_t5, MOODS)
    assert answer.code == 0, answer.stderr
    assert "20 train, 1 validation rows, 2 labels" in answer.stdout


def test_warnings_end_with_status_0_and_errors_with_1(tmp_path: Path, tiny_t5: Path) -> None:
    warned = run_check(tmp_path, tiny_t5, [*MOODS, MOODS[0]])
    assert warned.code == 0
    assert "duplicate-row" in warned.stdout
    refused = run_check(tmp_path, tiny_t5, [*MOODS, MOODS[0], {"text": "[red]a[/]", "label": "postive"}])
    assert refused.code == 1
    assert "Traceback" not in refused.stderr
    assert "did you mean 'positive'?" in refused.stdout
    assert "duplicate-row" in refused.stdout


def test_findings_can_be_had_as_json(tmp_path: Path, tiny_t5: Path) -> None:
    answer = run_check(
        tmp_path, tiny_t5, [*MOODS, {"text": "", "label": "positive"}, {"text": "a", "label": 1}], "--json"
    )
    assert answer.code == 1
    found = json.loads(answer.stdout)
    assert (found["task"], found["errors"], found["rows"]) == ("mood", 1, {"train": 21, "validation": 1})
    assert found["labels"] == {"positive": 11, "negative": 10}
    assert [each["code"] for each in found["findings"]] == ["unknown-label", "empty-text"]
    assert found["findings"][0]["count"] == 1


def test_a_task_file_that_is_wrong_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "gone.yaml" in superpos("data", "check", tmp_path / "gone.yaml").refusal()
