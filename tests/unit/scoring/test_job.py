"""Jobs on a real server: the same rows with answers, resumed where they were interrupted."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from support.adapters import SENTIMENT, TOPIC, TOPICS, make_adapter
from support.faulty_proxy import Refuses, faulty_proxy
from support.scoring import Watching, a_job, lines_of, score, text_of, write_csv
from support.server import RunningServer

from backbone import Backbone
from scoring.errors import InvalidInput, Mismatch, OutputInUse
from superpos_client import Client, NotFound, RateLimited, ServerFault


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_has_the_answer_of_its_text(shared_server: RunningServer, tmp_path: Path) -> None:
    watching = score(shared_server.url, [write_csv(tmp_path / "a.csv", 95)], tmp_path / "out.csv")
    found = rows_of(tmp_path / "out.csv")
    assert [row["id"] for row in found] == [str(n) for n in range(95)]
    with Client(shared_server.url) as client:
        expected = client.classify("sentiment", [text_of(n) for n in range(95)])
    assert [row["label"] for row in found] == [answer.label for answer in expected]
    assert [float(row["score"]) for row in found] == [answer.score for answer in expected]
    assert list(found[0]) == ["id", "sentence", "label", "score", "abstained", "version", "digest"]
    assert {(row["version"], row["digest"], row["abstained"]) for row in found} == {("1", expected[0].digest, "false")}
    assert (watching.rows, watching.files) == (95, ["a.csv"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out.csv", "out.csv.manifest.json"]


@pytest.mark.parametrize("after", [1, 15, 30, 94])
def test_an_interrupted_job_continues_and_its_output_is_the_same(
    shared_server: RunningServer, tmp_path: Path, after: int
) -> None:
    path = write_csv(tmp_path / "a.csv", 95)
    score(shared_server.url, [path], tmp_path / "whole.csv")
    with (
        pytest.raises(KeyboardInterrupt),
        a_job(shared_server.url, [path], tmp_path / "out.csv") as (job, run),
        job.opened(restart=False),
    ):
        run.run(Watching(interrupt_after=after))
    assert not (tmp_path / "out.csv").exists()
    watching = score(shared_server.url, [path], tmp_path / "out.csv")
    assert watching.rows <= 95 - (after - 1) // 10 * 10
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert score(shared_server.url, [path], tmp_path / "out.csv").rows == 0


def test_bad_rows_are_in_the_side_file_and_no_other_row_moves(shared_server: RunningServer, tmp_path: Path) -> None:
    lines = ["id,sentence", "0,a film", "1,", "2,a,b", "3," + "word " * 200, '4,"open', "5,a dog", ""]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    score(shared_server.url, [tmp_path / "a.csv"], tmp_path / "out.csv", part_rows=2)
    assert [(row["id"], row["label"] != "") for row in rows_of(tmp_path / "out.csv")] == [
        ("0", True),
        ("1", False),
        ("3", False),
        ("5", True),
    ]
    rejected = lines_of(tmp_path / "out.csv.rejected.jsonl")
    assert [(each["place"], each.get("task")) for each in rejected] == [
        ("line 3", "sentiment"),
        ("line 4", None),
        ("line 5", "sentiment"),
        ("line 6, column 3", None),
    ]
    assert {each["file"] for each in rejected} == {str(tmp_path / "a.csv")}
    assert rejected[1] == {
        "file": str(tmp_path / "a.csv"),
        "place": "line 4",
        "reason": "3 columns, expected 2 as in the header",
        "row": "2,a,b",
    }
    assert "the text is empty" in rejected[0]["reason"]
    assert "text_too_long" in rejected[2]["reason"]
    assert rejected[2]["row"]["id"] == "3"


def test_values_that_are_not_texts_are_refused_row_by_row(shared_server: RunningServer, tmp_path: Path) -> None:
    rows = [{"sentence": "a film"}, {"sentence": None}, {"sentence": 3}, {"other": "x"}, {"sentence": "\ud800"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score(shared_server.url, [tmp_path / "a.jsonl"], tmp_path / "out.jsonl")
    assert [row["label"] is None for row in lines_of(tmp_path / "out.jsonl")] == [False, True, True, True, True]
    reasons = [each["reason"] for each in lines_of(tmp_path / "out.jsonl.rejected.jsonl")]
    assert reasons[:3] == [
        "column 'sentence' has no value, expected text",
        "column 'sentence' is 3, expected text",
        "the row has no column 'sentence'",
    ]
    assert "expected text in UTF-8" in reasons[3]


def test_several_tasks_answer_in_one_pass(shared_server: RunningServer, tiny: Backbone, tmp_path: Path) -> None:
    shared_server.upload("topic", make_adapter(tiny, TOPIC))
    path = write_csv(tmp_path / "a.csv", 25)
    score(
        shared_server.url,
        [path],
        tmp_path / "out.csv",
        refs=("sentiment", "topic", "sentiment@1"),
        columns={"text": "sentence"},
        scores=True,
    )
    found = rows_of(tmp_path / "out.csv")
    assert len(found) == 25
    columns = ("label", "score", "scores", "abstained", "version", "digest")
    prefixes = ("sentiment_", "topic_", "sentiment@1_")
    assert list(found[0])[2:] == [prefix + column for prefix in prefixes for column in columns]
    assert all(row["sentiment_score"] == row["sentiment@1_score"] for row in found)
    scores = json.loads(found[0]["topic_scores"])
    assert list(scores) == list(TOPIC.label_names)
    assert max(scores.values()) == float(found[0]["topic_score"])


def test_multi_label_answers_have_all_their_labels(
    shared_server: RunningServer, tiny: Backbone, tmp_path: Path
) -> None:
    shared_server.upload("topics", make_adapter(tiny, TOPICS, readout="soft"))
    rows = pyarrow.table({"text": [text_of(n) for n in range(12)]})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    score(shared_server.url, [tmp_path / "a.parquet"], tmp_path / "out.parquet", refs=("topics",))
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.column("labels").type == pyarrow.list_(pyarrow.string())
    with Client(shared_server.url) as client:
        expected = client.classify("topics", rows.column("text").to_pylist())
    assert found.column("labels").to_pylist() == [list(answer.labels or ()) for answer in expected]


def test_a_folder_is_scored_file_by_file_and_grows(shared_server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    write_csv(tmp_path / "in/a.csv", 12)
    write_csv(tmp_path / "in/deep/b.csv", 7)
    write_csv(tmp_path / "in/empty.csv", 0)
    inputs, out = [tmp_path / "in"], tmp_path / "out"
    assert score(shared_server.url, inputs, out).files == ["a.csv", "deep/b.csv", "empty.csv"]
    write_csv(tmp_path / "in/c.csv", 3)
    (out / "deep/b.csv").unlink()
    again = score(shared_server.url, inputs, out)
    assert (again.files, again.rows) == (["c.csv", "deep/b.csv"], 10)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "_manifest.json",
        "a.csv",
        "c.csv",
        "deep/b.csv",
        "empty.csv",
    ]


def test_an_output_of_another_job_is_refused_and_restart_replaces_it(
    shared_server: RunningServer, tmp_path: Path
) -> None:
    path, out = write_csv(tmp_path / "a.csv", 12), tmp_path / "out.csv"
    score(shared_server.url, [path], out)
    with pytest.raises(Mismatch, match=r"which another job began: --scores was off, now on\. Start again with --rest"):
        score(shared_server.url, [path], out, scores=True)
    write_csv(path, 13)
    with pytest.raises(Mismatch, match=r"input .*a\.csv was changed: 12 rows then, 13 now"):
        score(shared_server.url, [path], out)
    assert len(rows_of(out)) == 12
    assert score(shared_server.url, [path], out, restart=True).rows == 13
    assert len(rows_of(out)) == 13


def test_a_new_version_is_refused_and_the_former_can_be_named(
    shared_server: RunningServer, tiny: Backbone, tmp_path: Path
) -> None:
    path, out = write_csv(tmp_path / "a.csv", 12), tmp_path / "out.csv"
    shared_server.upload("moving", make_adapter(tiny, SENTIMENT, seed=1))
    score(shared_server.url, [path], out, refs=("moving",))
    shared_server.upload("moving", make_adapter(tiny, SENTIMENT, seed=2))
    with pytest.raises(Mismatch, match=r"moving was version 1, now 2; name moving@1 to keep the former"):
        score(shared_server.url, [path], out, refs=("moving",))


def test_a_file_that_is_not_this_commands_is_never_overwritten(shared_server: RunningServer, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "a.csv", 12), tmp_path / "out.csv"
    out.write_text("precious")
    with pytest.raises(Mismatch, match="exists and has no manifest"):
        score(shared_server.url, [path], out)
    assert out.read_text() == "precious"
    assert not (tmp_path / "out.csv.parts").exists()


def test_two_processes_do_not_score_into_one_output(shared_server: RunningServer, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "a.csv", 12), tmp_path / "out.csv"
    with (
        a_job(shared_server.url, [path], out) as (first, _),
        a_job(shared_server.url, [path], out) as (second, _),
        first.opened(restart=False),
        pytest.raises(OutputInUse, match="another process scores into"),
        second.opened(restart=False),
    ):
        pass


@pytest.mark.slow
def test_a_server_that_is_away_costs_no_row(shared_server: RunningServer, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 95)
    score(shared_server.url, [path], tmp_path / "whole.csv")
    with faulty_proxy(shared_server.url, lambda number: Refuses(503) if number in (0, 1) else None) as proxy:
        watching = score(proxy.url, [path], tmp_path / "out.csv", max_retries=0)
    assert watching.waits
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "out.csv.rejected.jsonl").exists()


@pytest.mark.slow
def test_a_busy_server_is_reported_while_it_is_waited_for(shared_server: RunningServer, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 95)
    with faulty_proxy(shared_server.url, lambda number: Refuses(429, "0") if number in (0, 2) else None) as proxy:
        watching = score(proxy.url, [path], tmp_path / "out.csv")
    assert {type(error) for error in watching.waits} == {RateLimited}
    assert watching.rows == 95, "no row was scored twice: the job did not begin again"


@pytest.mark.slow
def test_a_row_that_the_server_fails_at_is_in_the_side_file(shared_server: RunningServer, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 95)
    score(shared_server.url, [path], tmp_path / "whole.csv")
    with faulty_proxy(shared_server.url, poison=text_of(37).encode()) as proxy:
        watching = score(proxy.url, [path], tmp_path / "out.csv")
    assert watching.waits == []
    (line,) = lines_of(tmp_path / "out.csv.rejected.jsonl")
    assert (line["place"], line["row"]["id"]) == ("line 39", "37")
    assert line["reason"] == "500 internal_server_error"
    found, whole = rows_of(tmp_path / "out.csv"), rows_of(tmp_path / "whole.csv")
    assert found[37]["label"] == ""
    assert [row for row in found if row["id"] != "37"] == [row for row in whole if row["id"] != "37"]


@pytest.mark.parametrize("poison", [b"inputs", b"zebra"])
@pytest.mark.slow
def test_a_server_that_fails_at_every_row_rejects_none(
    shared_server: RunningServer, tmp_path: Path, poison: bytes
) -> None:
    """All requests fail, or ten rows in succession after some that were answered."""
    rows = [
        "id,sentence",
        *(f"{n},{text_of(n)}" for n in range(20)),
        *(f"{n},zebra {text_of(n)}" for n in range(20, 40)),
    ]
    (tmp_path / "a.csv").write_text("\n".join([*rows, ""]))
    with (
        faulty_proxy(shared_server.url, poison=poison) as proxy,
        a_job(proxy.url, [tmp_path / "a.csv"], tmp_path / "out.csv", max_retries=0) as (job, run),
        job.opened(restart=False),
        pytest.raises(ServerFault),
    ):
        run.run(Watching(), patience_s=0)
    assert not (tmp_path / "out.csv").exists()
    with faulty_proxy(shared_server.url) as proxy:
        score(proxy.url, [tmp_path / "a.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv.rejected.jsonl").exists()


def test_an_estimate_writes_nothing(shared_server: RunningServer, tmp_path: Path) -> None:
    with a_job(shared_server.url, [write_csv(tmp_path / "a.csv", 195)], tmp_path / "out.csv") as (_, run):
        estimate = run.estimate(trial=True)
    assert (estimate.num_files, estimate.num_rows) == (1, 195)
    assert estimate.rows_per_s is not None
    assert estimate.rows_per_s > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_columns_and_tasks_that_do_not_fit_are_refused_before_any_row(
    shared_server: RunningServer, tmp_path: Path
) -> None:
    path, out = write_csv(tmp_path / "a.csv", 3, column="body"), tmp_path / "out.csv"
    with pytest.raises(InvalidInput, match=r"no column 'sentence', which sentiment reads; .* --text COLUMN: id, body"):
        score(shared_server.url, [path], out)
    with pytest.raises(InvalidInput, match=r"no column 'premise', .* with --column premise=COLUMN"):
        score(shared_server.url, [path], out, refs=("pair",))
    with pytest.raises(InvalidInput, match="--text body: pair has several fields"):
        score(shared_server.url, [path], out, refs=("pair",), text="body")
    with pytest.raises(InvalidInput, match="no field 'label', the tasks have sentence"):
        score(shared_server.url, [path], out, columns={"label": "body"})
    with pytest.raises(NotFound, match=r"sentiment@7: task 'sentiment' has no such version; it has production, 1"):
        score(shared_server.url, [path], out, refs=("sentiment@7",))
    (tmp_path / "b.csv").write_text("label,sentence\nx,a film\n")
    with pytest.raises(InvalidInput, match="has a column 'label' already; name the new columns with --prefix"):
        score(shared_server.url, [tmp_path / "b.csv"], out)
    pyarrow.parquet.write_table(pyarrow.table({"sentence": [1, 2]}), tmp_path / "c.parquet")
    with pytest.raises(InvalidInput, match="column 'sentence' does not hold text"):
        score(shared_server.url, [tmp_path / "c.parquet"], tmp_path / "out.parquet")
    score(shared_server.url, [tmp_path / "b.csv"], out, prefix="predicted_")
    assert list(rows_of(out)[0])[2:4] == ["predicted_label", "predicted_score"]


def test_truncated_texts_are_marked(shared_server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence\na film\n" + "word " * 200 + "\n")
    score(shared_server.url, [tmp_path / "a.csv"], tmp_path / "out.csv", truncate="end")
    assert [row["truncated"] for row in rows_of(tmp_path / "out.csv")] == ["false", "true"]
