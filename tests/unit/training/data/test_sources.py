"""Where rows come from: files, directories, and data sets of a Hub that stands on loopback."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from support.cli import superpos
from support.data import WEATHER, read_split, task_of, write_jsonl
from support.hub import COMMIT, Hub, write_class_parquet

from training.data.examples import read_examples, read_shards
from training.data.hub import fetch_hub_rows, parse_hub_id
from training.data.sources import locate
from training.errors import InvalidData
from training.task.task_file import DataSource, TaskFile, load_task_file

ROWS = [{"text": f"text {n}", "label": n % 2} for n in range(40)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one data set of two configurations, and an empty cache."""
    folder = tmp_path / "hub"
    write_class_parquet(folder / "sky" / "train" / "0000.parquet", ROWS[:30], ["sun", "rain"])
    write_class_parquet(folder / "sky" / "train" / "0001.parquet", ROWS[30:], ["sun", "rain"])
    write_class_parquet(folder / "sky" / "validation" / "0000.parquet", ROWS[:6], ["sun", "rain"])
    write_class_parquet(folder / "sky" / "test" / "0000.parquet", [{"text": "a", "label": -1}], ["sun", "rain"])
    write_class_parquet(folder / "sea" / "partial-train" / "0000.parquet", ROWS, ["sun", "rain"])
    write_class_parquet(folder / "sea" / "test" / "0000.parquet", ROWS[:3], ["sun", "rain"])
    write_class_parquet(folder / "ice" / "validation" / "0000.parquet", ROWS[:3], ["sun", "rain"])
    hub = Hub(folder, "weather-people/weather")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    places = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", places)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.stop()


def hub_task(**source: object) -> TaskFile:
    return TaskFile(name="weather", spec=WEATHER, data=DataSource.model_validate(source))


def refusal(text: str, **options: str) -> str:
    with pytest.raises(InvalidData) as caught:
        fetch_hub_rows(text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the Hub


def test_rows_of_the_hub_have_their_label_names_and_their_commit(hub: Hub) -> None:
    rows = read_split(hub_task(hub="weather-people/weather:sky"), split="paper", seed=0)
    assert (len(rows.train), len(rows.report)) == (40, 6)
    assert [example.label for example in rows.report] == [0, 1, 0, 1, 0, 1]
    assert rows.described["hub"] == "weather-people/weather"
    assert rows.described["hub_config"] == "sky"
    assert rows.described["hub_revision"] == COMMIT
    assert not any("/test/" in line for line in hub.asked), "rows that nobody reads were fetched"


def test_what_was_fetched_is_not_fetched_again(hub: Hub) -> None:
    first = fetch_hub_rows("weather-people/weather:sky")
    assert len(first.train) == 2
    hub.asked.clear()
    assert fetch_hub_rows("weather-people/weather:sky") == first
    assert not any(line.startswith("GET") and "/resolve/" in line for line in hub.asked)


def test_a_pinned_revision_needs_no_hub_once_it_was_fetched(hub: Hub) -> None:
    fetched = fetch_hub_rows("weather-people/weather:sky")
    hub.stop()
    assert fetch_hub_rows("weather-people/weather:sky", revision=COMMIT) == fetched
    assert "cannot be reached" in refusal("weather-people/weather:sea", revision=COMMIT)


def test_the_test_rows_stand_in_where_there_are_no_validation_rows(hub: Hub) -> None:
    fetched = fetch_hub_rows("weather-people/weather:sea")
    assert [path.parent.name for path in fetched.train + fetched.validation] == ["partial-train", "test"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weather-people/weather", "several configurations, expected one of ice, sea, sky"),
        ("weather-people/weather:mud", "unknown configuration 'mud', expected one of ice, sea, sky"),
        ("weather-people/weather:ice", "no split 'train', only validation"),
        ("weather-people/other", "unknown or private; set HF_TOKEN"),
        ("weather-people/gated", "it is gated; request access"),
        ("not an id", "is not the id of a data set on the Hub"),
        ("../up", "the Hub rejected the request"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_refused_with_the_reason(hub: Hub, text: str, expected: str) -> None:
    message = refusal(text)
    assert repr(text) in message
    assert expected in message


def test_a_commit_that_the_hub_does_not_have_is_refused_by_name(hub: Hub) -> None:
    gone = "f" * 40
    assert f"no Parquet conversion {gone!r}" in refusal("weather-people/weather:sky", revision=gone)


def test_a_hub_out_of_reach_is_refused_with_a_way_out(hub: Hub) -> None:
    hub.stop()
    assert "cannot be reached" in refusal("weather-people/weather:sky")
    assert "data.revision" in refusal("weather-people/weather:sky", revision=COMMIT)


def test_offline_the_hub_is_not_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = fetch_hub_rows("weather-people/weather:sky")
    hub.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch_hub_rows("weather-people/weather:sky", revision=COMMIT) == fetched
    assert "cannot be reached" in refusal("weather-people/weather:sky")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("glue/sst2", ("nyu-mll/glue", "sst2")),
        ("super_glue:boolq", ("aps/super_glue", "boolq")),
        ("owner/name", ("owner/name", None)),
        ("owner/name:config", ("owner/name", "config")),
        ("trec", ("trec", None)),
    ],
)
def test_an_id_is_a_data_set_and_a_configuration(text: str, expected: tuple[str, str | None]) -> None:
    assert parse_hub_id(text) == expected


def test_a_task_file_is_drafted_from_the_hub_and_pins_what_it_saw(hub: Hub, tmp_path: Path, tiny_t5: Path) -> None:
    out = tmp_path / "task.yaml"
    answer = superpos("task", "init", "weather-people/weather:sky", "--out", out, "--backbone", tiny_t5)
    assert answer.code == 0, answer.stderr
    task = load_task_file(out, variables={})
    assert (task.name, task.spec.label_words) == ("sky", ("sun", "rain"))
    assert (task.data.hub, task.data.revision) == ("weather-people/weather:sky", COMMIT)
    hub.stop()
    assert len(read_split(task, split="paper", seed=0).train) == 40
    assert superpos("data", "check", out, "--backbone", tiny_t5).code == 0


def test_a_hub_id_that_cannot_be_had_is_refused_in_one_line(hub: Hub, tmp_path: Path) -> None:
    refusal = superpos("task", "init", "weather-people/other", "--out", tmp_path / "task.yaml").refusal()
    assert "'weather-people/other'" in refusal


# --- label names in the file


def test_integer_labels_take_their_names_from_the_file_unless_the_task_gives_them(tmp_path: Path) -> None:
    path = write_class_parquet(tmp_path / "rows.parquet", ROWS[:2], ["sun", "rain"])
    assert [example.label for example in read_examples(path, task_of(path)).examples] == [0, 1]
    turned = task_of(path, label_values={"0": "rain", "1": "sun"})
    assert [example.label for example in read_examples(path, turned).examples] == [1, 0]


def test_label_names_that_are_not_the_tasks_are_not_taken(tmp_path: Path) -> None:
    path = write_class_parquet(tmp_path / "rows.parquet", ROWS[:2], ["sun", "snow"])
    with pytest.raises(InvalidData, match=r"row 2: field 'label' is 1, expected one of"):
        read_examples(path, task_of(path))


# --- a directory


def in_directory(folder: Path) -> DataSource:
    return DataSource(directory=str(folder))


def test_a_directorys_files_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "dev.jsonl", "test.jsonl", "notes.txt"):
        write_jsonl(tmp_path / name, [{"text": name, "label": "sun"}])
    sources = locate(in_directory(tmp_path))
    assert [path.name for path in sources.train] == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert [path.name for path in sources.validation] == ["dev.jsonl"]
    merged = read_shards(sources.train, task_of(sources.train[0]))
    assert [example.fields["text"] for example in merged.examples] == [path.name for path in sources.train]
    assert merged.sha256 != read_shards(sources.train[:1], task_of(sources.train[0])).sha256


def test_a_directory_without_validation_rows_has_none_and_one_of_training_and_test_reports_on_test(
    tmp_path: Path,
) -> None:
    write_jsonl(tmp_path / "Train.JSONL", [])
    assert locate(in_directory(tmp_path)).validation == ()
    write_jsonl(tmp_path / "test.jsonl", [])
    assert [path.name for path in locate(in_directory(tmp_path)).validation] == ["test.jsonl"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "no training rows: found no data files"),
        (["rows.csv"], "no training rows: found rows.csv"),
        (["train.csv", "train.jsonl"], r"several files could hold its train rows \(train.csv, train.jsonl\)"),
        (["train.csv", "dev.csv", "val.csv"], r"several files could hold its validation rows \(dev.csv, val.csv\)"),
    ],
)
def test_a_directory_that_leaves_doubt_is_refused(tmp_path: Path, names: list[str], expected: str) -> None:
    for name in names:
        (tmp_path / name).write_text("text,label\n")
    with pytest.raises(InvalidData, match=expected):
        locate(in_directory(tmp_path))


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="gone: no such directory"):
        locate(in_directory(tmp_path / "gone"))
