"""Rows as the model reads them: `superpos data check` looks at the tokenizer's pieces, not at characters alone."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.cli import superpos
from support.data import Row, task_of, write_jsonl

from adapters import TaskSpec
from backbone import Backbone
from cli.commands.data import model_view
from training.data.sources import locate
from training.data.validation.check import check_rows
from training.data.validation.findings import Finding

WORDS = {"good": "good", "bad": "bad"}
SPEC = TaskSpec(template="review: {text}", labels=WORDS, max_tokens=64)
PAIR = TaskSpec(template="title: {title} text: {text}", labels=WORDS, max_tokens=64)
CHINESE = "这个产品非常好我很喜欢质量差"


def found(backbone: Backbone, folder: Path, rows: Sequence[Row], spec: TaskSpec = SPEC) -> Mapping[str, Finding]:
    write_jsonl(folder / "rows.jsonl", rows)
    task = task_of(folder / "rows.jsonl", spec=spec)
    return {each.code: each for each in check_rows(task, locate(task.data), view=model_view(backbone, task)).findings}


def labelled(texts: Sequence[str], **more: str) -> list[Row]:
    return [{"text": text, "label": ["good", "bad"][n % 2], **more} for n, text in enumerate(texts)]


PLAIN = [f"the {colour} bicycle number {n}" for n in range(10) for colour in ("red", "green")]


def test_texts_that_the_vocabulary_lacks_are_reported_by_field_and_as_equal_rows(
    embedded: Backbone, tmp_path: Path
) -> None:
    texts = ["".join(CHINESE[(n * k) % len(CHINESE)] for k in range(1, 9)) + CHINESE[: n % 5] for n in range(120)]
    report = found(embedded, tmp_path, labelled(texts))
    assert report["unread-text"].count == 120
    assert "lacks 100.0 % of the characters of field 'text'" in report["unread-text"].message
    assert report["same-tokens"].count > 90
    assert "under another label" in report["same-tokens"].examples[0]


@pytest.mark.parametrize("script", ["Очень хороший фильм", "とても良い映画", "बहुत अच्छी फिल्म", "👍👍👍 🎉"])
def test_every_script_that_the_vocabulary_lacks_is_reported(embedded: Backbone, tmp_path: Path, script: str) -> None:
    report = found(embedded, tmp_path, labelled([*PLAIN, f"{script} 1", f"{script} 2"]))
    assert report["unread-text"].count == 2


def test_the_share_is_of_the_field_that_lacks_it(embedded: Backbone, tmp_path: Path) -> None:
    rows = [*labelled(PLAIN, title="a title"), *labelled(["a plain text"], title=CHINESE)]
    report = found(embedded, tmp_path, rows, PAIR)
    assert report["unread-text"].count == 1
    assert "of field 'title'" in report["unread-text"].message
    assert "100 % of" in report["unread-text"].examples[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("面白い", "悪い"), ("it is 好", "it is 坏"), ("a 👍", "a 👎"), ("x" + " word" * 70, "x" + " word" * 80)],
    ids=["letters", "one character", "emoji", "cut off"],
)
def test_different_texts_of_the_same_tokens_are_reported(
    embedded: Backbone, tmp_path: Path, one: str, other: str
) -> None:
    report = found(embedded, tmp_path, labelled([*PLAIN, one, other]))
    assert report["same-tokens"].count == 1
    assert "line 22 reads like rows.jsonl: line 21 under another label" in report["same-tokens"].examples[0]


def test_equal_texts_are_duplicates_and_not_reported_again(embedded: Backbone, tmp_path: Path) -> None:
    report = found(embedded, tmp_path, labelled([*PLAIN, *PLAIN[:2]]))
    assert "same-tokens" not in report
    assert report["duplicate-row"].count == 2


def test_label_words_that_the_vocabulary_cannot_spell_are_reported(embedded: Backbone, tmp_path: Path) -> None:
    spec = TaskSpec(template="review: {text}", labels={"good": "很好", "bad": "bad 👎"}, max_tokens=64)
    report = found(embedded, tmp_path, labelled(PLAIN), spec)
    assert report["unread-label"].examples == ("'很好'", "'bad 👎'")


def test_two_forms_of_one_text_are_duplicates_and_the_form_that_is_read_otherwise_is_reported(
    tiny: Backbone, embedded: Backbone, tmp_path: Path
) -> None:
    composed = "le café était très agréable"
    decomposed = unicodedata.normalize("NFD", composed)
    rows = [{"text": text, "label": "good"} for text in [*PLAIN, composed, decomposed]]
    for backbone in (tiny, embedded):
        report = found(backbone, tmp_path, rows)
        assert report["duplicate-row"].count == 1
        ids = [
            text.token_ids
            for text in backbone.tokenizer.tokenize([composed, decomposed], max_tokens=999, truncation="error")
        ]
        assert ("decomposed-text" in report) == (ids[0] != ids[1])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_label_in_another_unicode_form_is_recognised_and_spelt_out(
    embedded: Backbone, tmp_path: Path, form: str
) -> None:
    label, other = (unicodedata.normalize(each, "déçu") for each in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    spec = TaskSpec(template="{text}", labels={label: "bad", "good": "good"}, max_tokens=64)
    rows = [{"text": text, "label": "good"} for text in PLAIN]
    report = found(embedded, tmp_path, [*rows, {"text": "a", "label": other}], spec)
    assert f"{other!a}, did you mean {label!a}?" in report["unknown-label"].examples[0]


def test_a_row_that_training_cannot_truncate_is_an_error_with_its_place(embedded: Backbone, tmp_path: Path) -> None:
    spec = TaskSpec(template="one two three four five six {title} {text}", labels=WORDS, max_tokens=9)
    rows = [*labelled(["a"] * 20, title=""), *labelled(["a"], title="and a title")]
    report = found(embedded, tmp_path, rows, spec)
    assert report["untruncatable"].level == "error"
    assert report["untruncatable"].examples[0].startswith("rows.jsonl: line 21: ")


@pytest.mark.slow
def test_the_command_reports_what_the_backbone_cannot_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", labelled([f"{CHINESE[n % 9 :]}{CHINESE[: n % 7]}" for n in range(120)]))
    (tmp_path / "mood.yaml").write_text(
        "name: mood\ntemplate: '{text}'\nlabels: {good: good, bad: bad}\ndata: {train: train.jsonl}\n"
    )
    answer = superpos("data", "check", tmp_path / "mood.yaml")
    assert answer.code == 0, answer.stderr
    assert "unread-text" in answer.stdout
    assert "same-tokens" in answer.stdout
