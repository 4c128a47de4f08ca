"""Task files drafted from rows: which columns are taken for what, and that what is written loads."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.cli import superpos
from support.hub import write_class_parquet

from training.data.examples import read_shards
from training.data.sources import RowSources, locate
from training.data.task_init.columns import Column, as_list, clean_words, label_set
from training.data.task_init.draft import Draft, draft_task
from training.data.task_init.writing import task_file_text
from training.errors import InvalidData
from training.task.grid import number_of
from training.task.task_file import TaskFile, parse_task_file

TICKETS = Path(__file__).parents[4] / "examples" / "tickets" / "tickets.csv"
Row = dict[str, object]


def spelled(texts: Sequence[str]) -> list[list[int]]:
    """One token per word, and the end."""
    return [[*(len(word) for word in text.split()), 1] for text in texts]


def draft(path: Path, **asked: object) -> Draft:
    sources = RowSources((path,))
    return draft_task(sources, {"train": str(path)}, name="task", token_ids=spelled, can_tell_apart=bool, **asked)


def loaded(drafted: Draft) -> TaskFile:
    return parse_task_file(task_file_text(drafted, command="a test"), path=Path("/task.yaml"), variables={})


def rows_file(folder: Path, rows: Sequence[Row], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(columns: dict[str, object], count: int = 40) -> list[Row]:
    """Rows whose cells are what a column's function makes of their number."""
    return [{name: cell(n) if callable(cell) else cell for name, cell in columns.items()} for n in range(count)]


def words(n: int) -> str:
    return f"some words that tell row {n} from others"


# --- which column is what


@pytest.mark.parametrize(
    ("columns", "texts", "label"),
    [
        ({"id": int, "text": words, "label": lambda n: "ab"[n % 2]}, ["text"], "label"),
        ({"Review Text": words, "stars": lambda n: n % 5 + 1}, ["Review Text"], "stars"),
        ({"premise": words, "hypothesis": words, "label": lambda n: n % 3}, ["hypothesis", "premise"], "label"),
        ({"sentence1": words, "sentence2": words, "note": words, "y": bool}, ["sentence1", "sentence2"], "y"),
        ({"what": lambda n: "ab"[n % 2], "blurb": words, "code": lambda n: f"c{n}"}, ["blurb"], "what"),
        ({"question": lambda n: ["cause", "effect"][n % 2], "story": words, "label": bool}, ["story"], "label"),
        (
            {"title": lambda n: f"t {n}", "body": words, "category": lambda n: "abc"[n % 3]},
            ["title", "body"],
            "category",
        ),
    ],
)
def test_columns_are_told_apart_by_name_type_and_how_values_repeat(
    tmp_path: Path, columns: dict[str, object], texts: list[str], label: str
) -> None:
    drafted = draft(rows_file(tmp_path, rows_of(columns)))
    task = loaded(drafted)
    assert [task.data.columns.get(field, field) for field in task.spec.fields] == texts
    assert task.data.label == label
    assert len(read_shards([Path(str(task.data.train))], task).examples) == 40


def test_what_is_asked_for_is_not_guessed(tmp_path: Path) -> None:
    path = rows_file(tmp_path, rows_of({"text": words, "other": words, "label": bool, "mood": lambda n: "ab"[n % 2]}))
    drafted = draft(path, label="mood", text=["other", "text"])
    assert drafted.template == "other: {other} text: {text}"
    assert drafted.label == "mood"
    with pytest.raises(InvalidData, match="unknown column 'mod', expected one of text, other, label, mood"):
        draft(path, label="mod")
    with pytest.raises(InvalidData, match="column 'mood' is both label and text"):
        draft(path, label="mood", text=["text", "mood"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": words, "id": lambda n: f"x{n}"}, "found no label column among 'text' .* name it with --label"),
        ({"n": int, "label": bool}, "found no text column in addition to the label 'label'"),
        ({"text": words, "label": "same"}, "column 'label' has one label for all rows, expected at least 2"),
        ({"text": words, "score": lambda n: 10.0**n}, "the range is too wide"),
    ],
)
def test_rows_that_no_task_can_be_guessed_from_are_refused(
    tmp_path: Path, columns: dict[str, object], expected: str
) -> None:
    with pytest.raises(InvalidData, match=expected):
        draft(rows_file(tmp_path, rows_of(columns)))


# --- labels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Refund_not_showing_up", "refund not showing up"),
        ("RefundNotShown", "refund not shown"),
        ("sci/tech", "sci tech"),
        ("größe", "größe"),
        ("?!", "?!"),
        (" A ", "a"),
    ],
)
def test_label_words_are_clean(name: str, expected: str) -> None:
    assert clean_words(name) == expected


def labels_of(cells: Sequence[object], name: str = "label", class_names: tuple[str, ...] = ()) -> dict[str, object]:
    found = label_set(Column(name, tuple(cells), class_names), bool)
    return {
        "words": found.words,
        "kind": found.kind,
        "values": found.values,
        "round_to": None if found.round_to is None else str(found.round_to),
    }


def test_names_of_classes_name_integers() -> None:
    found = labels_of([0, 1, 2], class_names=("World", "Sci/Tech", "none"))
    assert found["words"] == {"World": "world", "Sci/Tech": "sci tech", "none": "none"}
    assert found["values"] == {"0": "World", "1": "Sci/Tech", "2": "none"}


def test_names_that_would_get_the_same_words_keep_their_own() -> None:
    assert labels_of(["a_b", "a-b"])["words"] == {"a-b": "a-b", "a_b": "a_b"}


def test_integers_from_zero_are_classes_and_others_a_grid() -> None:
    assert labels_of([0, 1, 2, 3])["values"] == {"0": "class_0", "1": "class_1", "2": "class_2", "3": "class_3"}
    assert labels_of(["0", "1"])["values"] == {"0": "no", "1": "yes"}
    ratings = labels_of([5, 1, 2, 4])
    assert (list(ratings["words"]), ratings["kind"]) == (["1", "2", "3", "4", "5"], "ordinal")
    assert labels_of([0, 1, 2], name="score")["kind"] == "ordinal"


def test_scores_off_a_grid_are_rounded_to_one_of_26_steps_as_sts_b_is() -> None:
    found = labels_of([0.0, 2.75, 4.333, 5.0])
    assert list(found["words"]) == [f"{n / 5:.1f}" for n in range(26)]
    assert found["round_to"] == "0.2"
    halves = labels_of(["0.5", "1.0", "2.5"])
    assert (list(halves["words"]), halves["round_to"]) == (["0.5", "1.0", "1.5", "2.0", "2.5"], None)


def test_words_that_the_backbone_spells_alike_become_numbers() -> None:
    found = label_set(Column("label", ("好", "坏")), lambda words: "好" not in words)
    assert list(found.words.values()) == ["1", "2"]
    assert found.to_edit is not None


# --- the file


def _could_be_a_label(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and number_of(text) is None


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    labels=st.lists(CELLS.filter(_could_be_a_label), min_size=2, max_size=5, unique=True),
    column=CELLS.filter(lambda name: name != "label"),
)
@pytest.mark.slow
def test_whatever_the_names_are_the_file_loads_and_says_the_same(labels: list[str], column: str) -> None:
    table = {column: tuple(words(n) for n in range(20)), "label": tuple(labels[n % len(labels)] for n in range(20))}
    names = [Column(name, cells) for name, cells in table.items()]
    assume(as_list(names[1]) is None)  # `a|b` next to `a` are lists of labels
    drafted = _drafted(names)
    task = loaded(drafted)
    assert task.data.label == "label"
    assert task.spec.label_names == tuple(sorted(labels))
    assert [task.data.columns.get(field, field) for field in task.spec.fields] == [column]


def _drafted(columns: Sequence[Column]) -> Draft:
    """A draft of columns that stand in no file."""
    sources = RowSources((Path("rows.csv"),))
    return draft_task(
        sources, {"train": "rows.csv"}, name="task", token_ids=spelled, can_tell_apart=bool, columns=columns
    )


def test_the_longest_text_is_by_the_99th_percentile_and_capped(tmp_path: Path) -> None:
    long = rows_of({"text": lambda n: "word " * (20 if n else 5_000), "label": bool}, 200)
    drafted = draft(rows_file(tmp_path, long))
    assert drafted.max_tokens == 24  # 20 words, `text:` before them and the end after them
    assert "0.5 % will be cut" in {guess.what: guess.why for guess in drafted.guesses}["max_tokens"]
    endless = rows_of({"text": lambda n: "word " * 5_000, "label": bool})
    assert draft(rows_file(tmp_path, endless)).max_tokens == 512


def test_rare_labels_bring_macro_f1(tmp_path: Path) -> None:
    rare = rows_of({"text": words, "label": lambda n: "ab"[n < 3]})
    assert draft(rows_file(tmp_path, rare)).metrics == ("accuracy", "macro_f1")


# --- the command


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.slow
def test_the_example_csv_becomes_a_sound_task(tmp_path: Path) -> None:
    out = tmp_path / "tasks" / "tickets.yaml"
    answer = superpos("task", "init", TICKETS, "--out", out)
    assert answer.code == 0, answer.stderr
    assert "6 distinct values" in answer.text
    task = parse_task_file(out.read_text(encoding="utf-8"), path=out, variables={})
    assert task.name == "tickets"
    assert task.spec.template == "text: {text}"
    assert task.spec.label_words == ("account", "billing", "feedback", "returns", "shipping", "technical")
    assert len(read_shards(locate(task.data).train, task).examples) == 480
    assert 64 <= task.spec.max_tokens <= 96


def test_a_validation_file_beside_the_training_file_is_taken_along(tmp_path: Path, tiny_t5: Path) -> None:
    rows = rows_of({"text": words, "label": lambda n: "ab"[n % 2]})
    data = tmp_path / "Weather News"
    data.mkdir()
    for name in ("train.csv", "validation.csv", "validation.tsv"):
        write_csv(data / name, rows)
    out = tmp_path / "task.yaml"
    answer = superpos("task", "init", data / "train.csv", "--out", out, "--backbone", tiny_t5)
    assert answer.code == 0, answer.stderr
    task = parse_task_file(out.read_text(encoding="utf-8"), path=out, variables={})
    assert task.name == "weather_news"
    assert [path.name for path in locate(task.data).validation] == ["validation.csv"]


def test_a_directory_becomes_a_task_of_its_files(tmp_path: Path, tiny_t5: Path) -> None:
    rows = [{"text": words(n), "label": n % 2} for n in range(40)]
    write_class_parquet(tmp_path / "rows" / "train.parquet", rows, ["Neg", "Pos"])
    out = tmp_path / "task.yaml"
    answer = superpos("task", "init", tmp_path / "rows", "--out", out, "--backbone", tiny_t5, "--name", "mood")
    assert answer.code == 0, answer.stderr
    task = parse_task_file(out.read_text(encoding="utf-8"), path=out, variables={})
    assert (task.name, task.spec.label_words) == ("mood", ("neg", "pos"))
    assert task.data.directory == str(tmp_path / "rows")
    assert len(read_shards(locate(task.data).train, task).examples) == 40


def test_a_file_is_overwritten_only_when_asked_to(tmp_path: Path, tiny_t5: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of({"text": words, "label": lambda n: "ab"[n % 2]}))
    out = tmp_path / "task.yaml"
    out.write_text("mine")
    arguments = ("task", "init", path, "--out", out, "--backbone", tiny_t5)
    assert "--force" in superpos(*arguments).refusal()
    assert out.read_text() == "mine"
    assert superpos(*arguments, "--force").code == 0
    assert "template" in out.read_text()


@pytest.mark.parametrize("data", ["gone.csv", "./gone", "/gone"])
def test_rows_that_are_not_there_are_refused(tmp_path: Path, data: str) -> None:
    assert superpos("task", "init", data, "--out", tmp_path / "t.yaml").refusal() == (
        f"{data}: no such file or directory"
    )


def test_nothing_is_written_that_would_not_load(tmp_path: Path, tiny_t5: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of({"text": words, "label": lambda n: "ab"[n % 2]}))
    out = tmp_path / "task.yaml"
    refusal = superpos("task", "init", path, "--out", out, "--name", "Not A Name", "--backbone", tiny_t5).refusal()
    assert "'Not A Name'" in refusal
    assert not out.exists()


# --- what the rows do not decide


@pytest.mark.parametrize(
    ("columns", "doubt"),
    [
        (
            {"text": words, "region": lambda n: "ab"[n % 2], "team": lambda n: "xyz"[n % 3]},
            "several columns could be the label: 'region' (2 distinct values), 'team' (3 distinct values)",
        ),
        (
            {"text": words, "topic": lambda n: "ab"[n % 2], "sentiment": lambda n: "xyz"[n % 3]},
            "several columns could be the label: 'sentiment' (3 distinct values), 'topic' (2 distinct values)",
        ),
        (
            {"text": words, "label": lambda n: f"note {n // 2 if n < 4 else n}"},
            "column 'label' has 38 distinct values in 40 rows, which are too many for labels",
        ),
        (
            {"ours": words, "theirs": words, "label": lambda n: "ab"[n % 2]},
            "several columns could be the text: 'ours' (40 distinct values), 'theirs' (40 distinct values)",
        ),
        (
            {"size": lambda n: "SML"[n % 3], "label": lambda n: "ab"[n % 2]},
            "no column looks like a text: 'size' has 3 distinct values",
        ),
    ],
)
def test_choices_that_rows_do_not_decide_are_doubts(tmp_path: Path, columns: dict[str, object], doubt: str) -> None:
    (found,) = draft(rows_file(tmp_path, rows_of(columns))).doubts
    assert found.startswith(doubt)
    assert "name it with --" in found


@pytest.mark.parametrize("asked", [{"label": "team"}, {}])
def test_a_choice_that_is_clear_or_requested_is_not_in_doubt(tmp_path: Path, asked: dict[str, str]) -> None:
    columns: dict[str, object] = {"body": words, "note": lambda n: f"n{n}", "team": lambda n: "ab"[n % 2]}
    if asked:
        columns["region"] = lambda n: "xy"[n % 2]
    assert not draft(rows_file(tmp_path, rows_of(columns)), **asked).doubts
