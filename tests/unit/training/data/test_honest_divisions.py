"""Divisions that neither leak a text from training into what is reported, nor starve a label of training rows."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data import read_split, task_of, write_jsonl

from adapters import TaskSpec
from training.data.examples import Example, text_key
from training.data.folds import Fold
from training.data.splits import SplitRows
from training.errors import InvalidData

LABELS = ("sun", "rain", "snow", "hail")
SPEC = TaskSpec(template="text: {text}", labels={name: name for name in LABELS}, max_tokens=32)


def divided(folder: Path, rows: Sequence[tuple[str, str]], *, split: str = "honest", seed: int = 0) -> SplitRows:
    write_jsonl(folder / "train.jsonl", [{"text": text, "label": label} for text, label in rows])
    fold = {"fold": Fold(number=1, of=4)} if split == "kfold" else {}
    return read_split(task_of(folder / "train.jsonl", spec=SPEC), split=split, seed=seed, **fold)


def keys(examples: Iterable[Example]) -> set[str]:
    return {text_key(example.text) for example in examples}


def counts(examples: Iterable[Example]) -> Counter[str]:
    return Counter(LABELS[example.label] for example in examples)


@pytest.mark.parametrize("split", ["honest", "paper", "kfold"])
@pytest.mark.parametrize("seed", range(5))
def test_equal_texts_are_never_divided(tmp_path: Path, split: str, seed: int) -> None:
    """40 rows, 14 of which repeat another's text in another case, spacing or Unicode form."""
    texts = [f"Café number {n}" for n in range(26)]
    repeated = [
        *(text.upper() for text in texts[:5]),
        *(f"  {text.replace(' ', '  ')}" for text in texts[3:8]),
        *(unicodedata.normalize("NFD", text) for text in texts[10:14]),
    ]
    rows = [(text, LABELS[n % 2]) for n, text in enumerate([*texts, *repeated])]
    found = divided(tmp_path, rows, split=split, seed=seed)
    train, selection, report = map(keys, (found.train, found.selection, found.report))
    assert train.isdisjoint(report)
    assert train.isdisjoint(selection)
    assert split == "paper" or selection.isdisjoint(report)
    parts = [found.train, found.report] if split == "paper" else [found.train, found.selection, found.report]
    assert sum(map(len, parts)) == 40
    assert "report_overlap" not in found.described


@pytest.mark.parametrize("split", ["honest", "paper", "kfold"])
@pytest.mark.parametrize("seed", range(10))
def test_a_rare_label_keeps_its_training_rows(tmp_path: Path, split: str, seed: int) -> None:
    rows = [*((f"text {n}", LABELS[n % 2]) for n in range(78)), ("rare one", "snow"), ("rare two", "snow")]
    found = divided(tmp_path, rows, split=split, seed=seed)
    assert counts(found.train)["snow"] >= 1
    assert not any("without a training row: 'snow'" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(5))
def test_a_label_whose_rows_are_one_group_keeps_it_for_training(tmp_path: Path, seed: int) -> None:
    rows = [*((f"text {n}", LABELS[n % 2]) for n in range(70)), *(("the same hail", "hail") for _ in range(10))]
    assert counts(divided(tmp_path, rows, seed=seed).train)["hail"] == 10


@pytest.mark.parametrize("seed", range(5))
def test_held_out_rows_have_the_labels_in_proportion(tmp_path: Path, seed: int) -> None:
    rows = [(f"text {n}", "sun" if n < 700 else "rain" if n < 950 else "snow") for n in range(1_000)]
    found = divided(tmp_path, rows, seed=seed)
    assert counts(found.report) == {"sun": 70, "rain": 25, "snow": 5}
    assert (
        max(abs(counts(found.selection)[name] - rows) for name, rows in (("sun", 63), ("rain", 22), ("snow", 5))) <= 1
    )


def test_labels_without_rows_are_said_by_role(tmp_path: Path) -> None:
    found = divided(tmp_path, [(f"text {n}", "sun" if n % 9 else "rain") for n in range(60)])
    assert "weather: 2 of 4 labels without a training row: 'snow', 'hail'" in found.notes
    assert any(note.startswith("weather: 2 of 4 labels without a report row") for note in found.notes)


def test_a_limit_that_starves_a_label_says_so(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": f"{n}", "label": LABELS[n % 4]} for n in range(100)])
    found = read_split(task_of(tmp_path / "train.jsonl", spec=SPEC), split="honest", seed=0, limit=2)
    starved = len(LABELS) - len(counts(found.train))
    assert any(note.startswith(f"weather: {starved} of 4 labels without a training row") for note in found.notes)


def test_report_rows_of_a_validation_file_that_are_training_texts_are_counted(tmp_path: Path) -> None:
    train = [{"text": f"text {n}", "label": LABELS[n % 4]} for n in range(100)]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(
        tmp_path / "val.jsonl", [*({**row, "text": f" {row['text']} "} for row in train[:14]), *map(_new, range(26))]
    )
    task = task_of(tmp_path / "train.jsonl", tmp_path / "val.jsonl", spec=SPEC)
    found = read_split(task, split="paper", seed=0)
    assert found.described["report_overlap"] == 14
    assert "14 of 40 report rows have the text of a training row" in " ".join(found.notes)
    honest = read_split(task, split="honest", seed=0)
    assert honest.described["report_overlap"] == len(
        [row for row in honest.report if text_key(row.text) in keys(honest.train)]
    )


def _new(number: int) -> dict[str, str]:
    return {"text": f"new {number}", "label": LABELS[number % 4]}


def test_rows_of_one_text_cannot_be_divided_and_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="which leaves no training rows"):
        divided(tmp_path, [("the same", "sun")] * 40)


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "A ", "d"]) | st.integers(0, 60).map(str), st.sampled_from(LABELS)),
    min_size=20,
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), split=st.sampled_from(["honest", "paper"]))
@pytest.mark.slow
def test_whatever_the_rows_are_texts_stay_together_and_labels_keep_training_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], seed: int, split: str
) -> None:
    groups = len({text_key(text) for text, _ in rows})
    try:
        found = divided(tmp_path_factory.mktemp("rows"), rows, split=split, seed=seed)
    except InvalidData:
        assert groups < (2 if split == "paper" else 3)
        return
    assert keys(found.train).isdisjoint(keys(found.report) | keys(found.selection))
    starved = {label for _, label in rows} - set(counts(found.train))
    assert all(
        any("without a training row" in note and repr(label) in note for note in found.notes) for label in starved
    )
