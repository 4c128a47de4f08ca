"""A task's rows for many runs: read once, tokenised once, and divided for each seed and fold as for it alone."""

import hashlib
import json
from pathlib import Path

import pytest
from support.data import read_split, task_of, write_jsonl

from backbone import Backbone
from training.data.folds import Fold
from training.data.splits import Split
from training.runs.task_rows import TaskRows
from training.scoring.evaluation import tokenize_examples
from training.task.task_file import TaskFile

DIVISIONS: list[tuple[Split, int, Fold | None]] = [
    ("honest", 0, None),
    ("honest", 3, None),
    ("paper", 3, None),
    ("kfold", 0, Fold(number=2, of=5)),
    ("kfold", 3, Fold(number=5, of=5)),
]


def weather(folder: Path, group: str | None = None) -> TaskFile:
    """200 training and 40 validation rows, told apart by a number; four in a row share a page."""
    train = [{"text": f"{n}", "label": "sun" if n % 3 else "rain", "page": f"{n // 4}"} for n in range(200)]
    held_out = [{"text": f"{1000 + n}", "label": "sun" if n % 2 else "rain", "page": f"{n // 4}"} for n in range(40)]
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "val.jsonl", held_out)
    return task_of(folder / "train.jsonl", folder / "val.jsonl", group=group)


@pytest.mark.parametrize(
    ("group", "known"),
    [
        (None, ["94f9e427819b25a7", "692dfee7d9a6dc0a", "621756deb75cac99", "d7d1888f63c12bc3", "86dd3f1b2a62c0d1"]),
        ("page", ["cf0fef254f650988", "c71b48f023e39ff9", "938dd3a84bf9f4ca", "cf0362e6167788c9", "b8a3c5fbf082dee7"]),
    ],
)
def test_a_seed_and_a_fold_draw_the_rows_that_they_always_drew(
    tmp_path: Path, group: str | None, known: list[str]
) -> None:
    task = weather(tmp_path, group)
    drawn = []
    for split, seed, fold in DIVISIONS:
        rows = read_split(task, split=split, seed=seed, fold=fold)
        texts = [[example.text for example in part] for part in (rows.train[:100], rows.selection, rows.report)]
        drawn.append(hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16])
    assert drawn == known


@pytest.mark.parametrize("group", [None, "page"])
def test_every_division_of_one_reading_is_what_it_is_of_its_own(
    tiny: Backbone, tmp_path: Path, group: str | None
) -> None:
    task = weather(tmp_path, group)
    together = TaskRows(tiny, task)
    for split, seed, fold in DIVISIONS:
        rows = together.divided(split=split, seed=seed, limit=100, fold=fold)
        apart = read_split(task, split=split, seed=seed, limit=100, fold=fold)
        assert rows.described == apart.described
        assert rows.report_examples == apart.report
        parts = ((rows.train, apart.train), (rows.selection, apart.selection), (rows.report, apart.report))
        for tokenized, examples in parts:
            assert tokenized.digest() == tokenize_examples(tiny, task.spec, examples).digest()


def test_files_are_read_once_and_seeds_and_folds_share_the_tokens_of_a_row(tiny: Backbone, tmp_path: Path) -> None:
    rows = TaskRows(tiny, weather(tmp_path))
    first = rows.divided(split="honest", seed=0, limit=None)
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "val.jsonl").unlink()
    others = [rows.divided(split=split, seed=seed, limit=None, fold=fold) for split, seed, fold in DIVISIONS]
    known = {id(ids) for part in (first.train, first.selection, first.report) for ids in part.token_ids}
    assert len(known) == 240
    assert {id(ids) for division in others for ids in division.train.token_ids} <= known
    assert others[0] is first
