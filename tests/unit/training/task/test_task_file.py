"""Task files: what loads, and what each refusal says."""

from pathlib import Path

import pytest

from training.errors import InvalidTaskFile
from training.task.task_file import TaskFile, load_task_file

EXAMPLES = sorted((Path(__file__).parents[4] / "examples" / "tasks").glob("*.yaml"))

GOOD = """\
name: weather
template: "text: {text}"
labels: {sun: sunny, rain: rainy}
max_tokens: 32
data:
  train: train.jsonl
"""


def load(tmp_path: Path, text: str | bytes, **variables: str) -> TaskFile:
    """A task file of this text, loaded."""
    path = tmp_path / "task.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_task_file(path, variables=variables)


def refusal(tmp_path: Path, text: str | bytes, **variables: str) -> str:
    """What a task file of this text is refused with: one line that begins with the file."""
    with pytest.raises(InvalidTaskFile) as caught:
        load(tmp_path, text, **variables)
    message = str(caught.value)
    prefix = f"{tmp_path / 'task.yaml'}: "
    assert message.startswith(prefix)
    assert "\n" not in message
    return message.removeprefix(prefix)


def test_there_are_examples() -> None:
    glue = {"qqp", "qnli", "mnli", "sst2", "stsb", "mrpc", "cola"}
    super_glue = {"multirc", "rte", "cb", "copa", "wic", "boolq"}
    others = {"ag_news", "trec", "banking77", "tickets", "messages"}
    assert {path.stem for path in EXAMPLES} == glue | super_glue | others


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_and_is_named_like_its_file(path: Path) -> None:
    task = load_task_file(path, variables={"SUPERPOS_DATA": "/data"})
    assert task.name == path.stem
    assert len(task.spec.labels) >= 2
    assert task.description
    if task.name not in {"tickets", "messages"}:
        assert task.data.train == f"/data/{task.name}/train.parquet"
        assert task.data.validation == f"/data/{task.name}/validation.parquet"
    if task.spec.kind != "ordinal" and task.name not in {"tickets", "messages"}:
        assert set(task.data.label_values.values()) == set(task.spec.label_names)


def test_the_tickets_example_finds_its_rows_beside_it() -> None:
    task = load_task_file(next(path for path in EXAMPLES if path.stem == "tickets"), variables={})
    assert Path(task.data.train).is_file()
    assert task.data.validation is not None
    assert Path(task.data.validation).is_file()


def test_what_is_left_out_gets_its_default(tmp_path: Path) -> None:
    task = load(tmp_path, 'name: weather\ntemplate: "{text}"\nlabels: {a: x, b: y}\ndata: {train: rows.csv}\n')
    assert task.metric == "accuracy"
    assert task.spec.max_tokens == 256
    assert task.spec.truncation_side == "end"
    assert task.data.validation is None
    assert task.data.label == "label"
    assert task.data.label_values == {}
    assert task.data.columns == {}


def test_metrics_are_one_or_several_and_f1_is_of_the_second_label_or_the_one_named(tmp_path: Path) -> None:
    one, several, named = (
        load(tmp_path, GOOD + lines)
        for lines in ("metric: matthews\n", "metrics: [f1, accuracy]\n", "metrics: [f1]\npositive: sun\n")
    )
    assert (one.metrics, one.metric) == (("matthews",), "matthews")
    assert (several.metrics, several.metric) == (("f1", "accuracy"), "score")
    assert (several.scoring.positive, named.scoring.positive) == (1, 0)
    assert several.scoring.values is None


def test_an_ordinal_tasks_labels_are_numbers_to_its_metrics(tmp_path: Path) -> None:
    text = (
        'name: a\ntemplate: "{text}"\nlabels: {0.0: "0.0", 0.2: "0.2"}\nkind: ordinal\nmetrics: [pearson, spearman]\n'
    )
    assert load(tmp_path, text + "data: {train: rows.csv}\n").scoring.values == (0.0, 0.2)


def test_labels_that_yaml_takes_for_other_things_stay_text(tmp_path: Path) -> None:
    labels = "{yes: yes, no: no, on: off, 1: 1.50, null: ~, 2024-01-02: 0x10}"
    task = load(tmp_path, GOOD.replace("{sun: sunny, rain: rainy}", labels))
    assert task.spec.label_names == ("yes", "no", "on", "1", "null", "2024-01-02")
    assert task.spec.label_words == ("yes", "no", "off", "1.50", "~", "0x10")


def test_labels_keep_the_order_of_the_file(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD.replace("{sun: sunny, rain: rainy}", "{z: last, a: first, m: middle}"))
    assert task.spec.label_names == ("z", "a", "m")


def test_labels_may_be_a_list(tmp_path: Path) -> None:
    listed = "[{name: sun, words: sunny}, {name: rain, words: rainy}]"
    assert load(tmp_path, GOOD.replace("{sun: sunny, rain: rainy}", listed)) == load(tmp_path, GOOD)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD + "  validation: ../elsewhere/rows.tsv\n")
    assert task.data.train == str(tmp_path / "train.jsonl")
    assert task.data.validation == str(tmp_path / ".." / "elsewhere" / "rows.tsv")


def test_an_absolute_path_stays_as_it_is(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("train.jsonl", "/rows/train.jsonl")).data.train == "/rows/train.jsonl"


def test_variables_are_filled_in(tmp_path: Path) -> None:
    text = GOOD.replace("train.jsonl", "${ROOT}/${KIND}-train.jsonl") + "  validation: ${KIND}.csv\n"
    task = load(tmp_path, text, ROOT="/rows", KIND="small", UNUSED="x")
    assert task.data.train == "/rows/small-train.jsonl"
    assert task.data.validation == str(tmp_path / "small.csv")


def test_variables_stand_for_paths_alone_and_never_for_the_template(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD.replace("text: {text}", "${X}"), X="never shown")
    assert task.spec.template == "${X}"
    assert task.spec.fields == ("X",)


def test_label_values_and_columns_are_read_as_text(tmp_path: Path) -> None:
    task = load(tmp_path, GOOD + "  label: y\n  label_values: {0: sun, 1: rain}\n  columns: {text: 7}\n")
    assert task.data.label == "y"
    assert task.data.label_values == {"0": "sun", "1": "rain"}
    assert task.data.columns == {"text": "7"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: weather", "name: Weather Now", ["name:", "'Weather Now'"]),
        ("name: weather", "name: ''", ["name:", "''"]),
        ("name: weather", "name: ../up", ["name:", "'../up'"]),
        ("name: weather\n", "", ["name:", "required"]),
        ("max_tokens", "max_token", ["max_token:", "'32'"]),
        ("name: weather", "name: weather\nspec: {}", ["spec:"]),
        ("  train: train.jsonl", "  train: train.jsonl\n  test: x.jsonl", ["data.test:", "'x.jsonl'"]),
        ("  train: train.jsonl", "  label: y", ["data:", "train, directory and hub", "none"]),
        ("  train: train.jsonl", "  train: train.jsonl\n  hub: glue/sst2", ["data:", "train and hub"]),
        ("  train: train.jsonl", "  directory: rows\n  validation: v.csv", ["data:", "validation", "directory"]),
        ("  train: train.jsonl", "  train: train.jsonl\n  revision: main", ["data:", "revision"]),
        ("data:\n  train: train.jsonl\n", "", ["data:", "required"]),
        ("data:\n  train: train.jsonl\n", "data: train.jsonl\n", ["data:", "'train.jsonl'"]),
        ("text: {text}", "text: {text", ["template", "{text", "brace"]),
        ("text: {text}", "text: {text.__class__}", ["template", "brace"]),
        ("text: {text}", "no field", ["template", "0 fields"]),
        ('template: "text: {text}"\n', "", ["template:", "required"]),
        ("labels: {sun: sunny, rain: rainy}\n", "", ["labels:", "required"]),
        ("{sun: sunny, rain: rainy}", "{sun: sunny}", ["2 to 1000 labels", "1"]),
        ("{sun: sunny, rain: rainy}", "{sun: sunny, rain: ''}", ["labels.1.words:", "''"]),
        ("{sun: sunny, rain: rainy}", "{sun: sunny, rain: ' '}", ["label words", "' '"]),
        ("{sun: sunny, rain: rainy}", "{sun: sunny, rain: sunny}", ["label words", "'sunny'", "twice"]),
        (
            "{sun: sunny, rain: rainy}",
            "[{name: sun, words: sunny}, {name: sun, words: rainy}]",
            ["label name", "'sun'", "twice"],
        ),
        ("  train: train.jsonl", "  train: train.jsonl\n  round_to: 0.2", ["data.round_to:", "0.2", "ordinal"]),
        ("  train: train.jsonl", "  train: train.jsonl\n  round_to: -1", ["data.round_to:", "'-1'"]),
        (
            "labels: {sun: sunny, rain: rainy}\nmax_tokens: 32\ndata:",
            "labels: {0.2: a, 0.3: b}\nkind: ordinal\ndata:\n  round_to: 0.2",
            ["data.round_to:", "'0.3'", "0.2"],
        ),
        ("max_tokens: 32", "max_tokens: many", ["max_tokens:", "'many'"]),
        ("max_tokens: 32", "max_tokens: 1", ["max_tokens:", "'1'"]),
        ("max_tokens: 32", "max_tokens: 5000", ["max_tokens:", "'5000'"]),
        ("max_tokens: 32", "max_tokens: 32\nmetric: bleu", ["metric", "'bleu'"]),
        ("max_tokens: 32", "max_tokens: 32\nmetrics: [f1, bleu]", ["metrics.1", "'bleu'"]),
        ("max_tokens: 32", "max_tokens: 32\nmetrics: []", ["metrics:", "at least 1"]),
        ("max_tokens: 32", "max_tokens: 32\nmetric: f1\nmetrics: [f1]", ["metric:", "'f1'"]),
        ("max_tokens: 32", "max_tokens: 32\nmetrics: [f1, f1]", ["metrics:", "'f1', 'f1'", "repeated"]),
        ("max_tokens: 32", "max_tokens: 32\nmetric: spearman", ["metrics:", "'spearman'", "kind: ordinal"]),
        ("max_tokens: 32", "max_tokens: 32\nmetrics: [f1a, exact_match]", ["data:", "`group`"]),
        ("max_tokens: 32", "max_tokens: 32\npositive: hail", ["positive:", "'hail'", "sun, rain"]),
        ("rain: rainy}", "rain: rainy, hail: hail}\nmetric: f1", ["positive:", "1 with 3 labels"]),
        ("max_tokens: 32", "max_tokens: 32\nkind: ordinal", ["ordinal", "'sun'"]),
        (
            "  train: train.jsonl",
            "  train: train.jsonl\n  label_values: {0: sun, 1: snow}",
            ["data.label_values.1:", "'snow'", "sun, rain"],
        ),
    ],
)
def test_a_wrong_field_is_refused_by_its_name_and_value(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    assert old in GOOD
    message = refusal(tmp_path, GOOD.replace(old, new))
    for part in expected:
        assert part in message


def test_a_label_that_stands_twice_in_the_mapping_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("{sun: sunny, rain: rainy}", "{sun: sunny, rain: rainy, sun: bright}"))
    assert "sun" in message


def test_a_column_for_a_field_that_the_template_lacks_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "  columns: {txet: body}\n")
    assert "txet" in message


def test_a_variable_that_is_not_set_is_refused_by_its_name(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("train.jsonl", "${NOWHERE}/train.jsonl"), ELSEWHERE="/x")
    assert message.startswith("data: ")
    assert "'${NOWHERE}/train.jsonl'" in message
    assert "NOWHERE=" in message


def test_text_that_is_not_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: weather\nlabels: {sun: [\n")
    assert message.startswith("not YAML: ")
    assert "line 3" in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "# a comment\n"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text).startswith("expected a mapping")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("weather", "w\u00e9").encode("latin-1"))
    assert message.startswith("cannot be read: ")
    assert "utf-8" in message


def test_yaml_that_would_make_python_objects_makes_none(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("name: weather", "name: !!python/object/apply:os.getcwd []"))
    assert message.startswith("name: ")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskFile) as caught:
        load_task_file(tmp_path / "none.yaml", variables={})
    assert str(caught.value).startswith(f"{tmp_path / 'none.yaml'}: cannot be read: ")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskFile) as caught:
        load_task_file(tmp_path, variables={})
    assert str(caught.value).startswith(f"{tmp_path}: cannot be read: ")
