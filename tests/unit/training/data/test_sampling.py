"""Samples of rows: labels in proportion whatever the order of the file, the same rows from every format."""

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import WEATHER, read_split, task_of

from adapters import TaskSpec
from training.data.examples import Example
from training.data.sampling import stratified
from training.data.splits import SplitRows

SORTED = [{"text": f"text {n}", "label": "sun" if n < 600 else "rain"} for n in range(800)]
KINDS = ("csv", "tsv", "jsonl", "parquet")


def sorted_file(folder: Path, kind: str) -> Path:
    """600 rows of one label, then 200 of another."""
    path = folder / f"sorted.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in SORTED), encoding="utf-8")
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(SORTED), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(SORTED)
    return path


def limited(folder: Path, kind: str, *, seed: int = 0, limit: int = 40) -> SplitRows:
    return read_split(task_of(sorted_file(folder, kind)), split="honest", seed=seed, limit=limit)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_of_a_sorted_file_keeps_the_labels_in_proportion(tmp_path: Path, kind: str) -> None:
    rows = limited(tmp_path, kind)
    assert Counter(WEATHER.label_names[example.label] for example in rows.train) == {"sun": 30, "rain": 10}
    assert rows.described["limit"] == 40
    places = [int(example.text.removeprefix("text: text ")) for example in rows.train]
    assert max(places[i] for i in range(40) if places[i] < 600) > 300, "not the first rows of the file"


def test_a_limit_draws_the_same_rows_from_every_format_and_others_by_another_seed(tmp_path: Path) -> None:
    drawn = [limited(tmp_path, kind).train for kind in KINDS]
    assert all(rows == drawn[0] for rows in drawn)
    assert limited(tmp_path, "csv").train == drawn[0]
    assert limited(tmp_path, "csv", seed=1).train != drawn[0]


def test_a_division_without_a_limit_records_none(tmp_path: Path) -> None:
    assert "limit" not in limited(tmp_path, "csv", limit=100_000).described


LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=80)


@given(LABELS, st.integers(1, 100))
def test_every_label_has_a_row_if_there_are_enough_and_shares_are_those_of_all_rows(
    labels: list[int], count: int
) -> None:
    rows = tuple(Example(str(n), label) for n, label in enumerate(labels))
    kept = stratified(rows, count)
    assert len(kept) == min(count, len(rows))
    assert [int(row.text) for row in kept] == sorted(int(row.text) for row in kept)
    before, after = Counter(labels), Counter(row.label for row in kept)
    if count >= len(before):
        assert set(after) == set(before)
    starved = sum(count * of_label < len(labels) for of_label in before.values())
    for label, of_label in before.items():
        share = min(count, len(labels)) * of_label / len(labels)
        assert share - 1 - starved <= after[label] <= share + 1


def test_rows_with_several_labels_count_for_their_rarest(tmp_path: Path) -> None:
    spec = TaskSpec(template="{text}", labels={"a": "a", "b": "b"}, kind="multi_label", max_tokens=32)
    rows = [{"text": f"text {n}", "label": ["a", "b"] if n < 100 else ["a"] if n < 300 else []} for n in range(400)]
    path = tmp_path / "sorted.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read_split(task_of(path, spec=spec), split="honest", seed=0, limit=40)
    assert Counter(example.label for example in found.train) == {(0, 1): 10, (0,): 20, (): 10}
