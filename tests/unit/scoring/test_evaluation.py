"""Scored files compared with their labels: metrics, confusion, worst rows, and the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from adapters.task import TaskSpec
from scoring.errors import InvalidInput
from scoring.evaluation import Evaluation, evaluate
from scoring.files.opening import Reading
from scoring.manifest import BackboneRecord, FileRecord, Manifest, OptionsRecord
from scoring.report import write_report
from scoring.tasks import AnswerOptions, ScoredTask, answer_columns

SENTIMENT = TaskSpec(template="sentence: {sentence}", labels={"negative": "bad", "positive": "good"})
TOPICS = TaskSpec(template="{text}", labels={"a": "a", "b": "b", "c": "c"}, kind="multi_label")
GRADES = TaskSpec(template="{text}", labels={"0": "0", "1": "1", "2.5": "2.5"}, kind="ordinal")


def task_of(spec: TaskSpec) -> ScoredTask:
    columns = {field: field for field in spec.fields}
    return ScoredTask(ref="t", task="t", version=1, digest="sha256:1", spec=spec, backbone={}, columns=columns)


def compared(
    path: Path, spec: TaskSpec = SENTIMENT, *, values: Mapping[str, str] | None = None, column: str = "gold"
) -> Evaluation:
    task = task_of(spec)
    columns = answer_columns(task, AnswerOptions(), prefix="")
    return evaluate({path.name: path}, task, columns, label_column=column, label_values=values or {}, reading=Reading())


def written(folder: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """Rows of right label, given label and score."""
    lines = ["sentence,gold,label,score,abstained,version,digest"]
    lines += [f"text {n},{right},{given},{score},false,1,x" for n, (right, given, score) in enumerate(rows)]
    path = folder / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_metrics_and_confusion_are_those_of_scikit_learn(tmp_path: Path) -> None:
    right = ["positive", "negative", "positive", "negative", "negative", "positive"]
    given = ["positive", "positive", "positive", "negative", "negative", "negative"]
    rows = [(r, g, str(0.6 + n / 20)) for n, (r, g) in enumerate(zip(right, given, strict=True))]
    found = compared(written(tmp_path, rows))
    assert {figure.title: pytest.approx(figure.value) for figure in found.figures} == {
        "accuracy": accuracy_score(right, given),
        "macro F1": f1_score(right, given, average="macro"),
    }
    assert found.figures[0].constant == 0.5
    assert found.matrix is not None
    assert found.matrix.tolist() == confusion_matrix(right, given).tolist()
    assert (found.num_rows, found.num_wrong, found.num_unlabelled) == (6, 2, 0)
    assert [(row.place, row.right, row.given) for row in found.worst] == [
        ("line 7", "positive", "negative"),
        ("line 3", "negative", "positive"),
    ]
    assert found.worst[0].fields == (("sentence", "text 5"),)


def test_rows_without_an_answer_or_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [("1", "positive", "0.9"), ("0", "", ""), ("", "positive", "0.8"), ("7", "negative", "0.7")]
    found = compared(written(tmp_path, rows), values={"0": "negative", "1": "positive"})
    assert (found.num_rows, found.num_unlabelled) == (1, 2)
    assert found.example == "a.csv, line 4: column 'gold' is '', expected a label of t"
    with pytest.raises(InvalidInput, match="no row has a label to compare t with"):
        compared(written(tmp_path, rows[2:]), values={"0": "negative", "1": "positive"})
    with pytest.raises(InvalidInput, match="has no column 'right' to compare with"):
        compared(written(tmp_path, rows), column="right")


def test_label_names_of_the_hub_are_read_from_the_file(tmp_path: Path) -> None:
    info = b'{"info": {"features": {"gold": {"names": ["negative", "positive"]}}}}'
    table = pyarrow.table(
        {"sentence": ["a"], "gold": [1], "label": ["positive"], "score": [0.9], "abstained": [True]}
    ).replace_schema_metadata({"huggingface": info})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = compared(tmp_path / "a.parquet")
    assert (found.num_rows, found.num_wrong, found.num_abstained) == (1, 0, 1)


def test_multi_label_rows_are_compared_as_sets(tmp_path: Path) -> None:
    right = [["a"], ["a", "b"], [], ["c"]]
    given = [["a"], ["b"], ["c"], ["c"]]
    table = pyarrow.table(
        {
            "text": ["w", "x", "y", "z"],
            "gold": right,
            "label": [(each or ["a"])[0] for each in given],
            "score": [0.9, 0.8, 0.7, 0.6],
            "labels": given,
            "abstained": [False] * 4,
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = compared(tmp_path / "a.parquet", TOPICS)
    indicators = [[[name in row for name in "abc"] for row in rows] for rows in (right, given)]
    assert {figure.title: pytest.approx(figure.value) for figure in found.figures} == {
        "micro F1": f1_score(*indicators, average="micro"),
        "macro F1": f1_score(*indicators, average="macro"),
        "exact match": 0.5,
    }
    assert [(row.right, row.given) for row in found.worst] == [("a, b", "b"), ("no label", "c")]


def test_grades_are_compared_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,gold,label,score,value,abstained\nx,2.50,2.5,0.9,2.4,false\ny,0,1,0.8,0.7,false\n")
    found = compared(path, GRADES)
    assert [figure.title for figure in found.figures] == ["Pearson", "Spearman", "accuracy", "macro F1"]
    assert found.num_wrong == 1


def test_the_page_has_the_figures_and_escapes_the_rows(tmp_path: Path) -> None:
    rows = [("positive", "negative", "0.99"), ("negative", "negative", "0.8")]
    path = written(tmp_path, rows)
    path.write_text(path.read_text().replace("text 0", "<script>$x$"))
    record = FileRecord(path="/in/a.csv", size_bytes=1, sha256="ab", rows=2, state="finished")
    manifest = Manifest(
        superpos="1",
        tasks=(),
        backbone=BackboneRecord(id="embedded", fingerprint="f", precision="fp32"),
        options=OptionsRecord(
            truncate="error", scores=False, prefix="", separator=None, encoding=None, part_rows=1, part_bytes=1
        ),
        files={"a.csv": record},
    )
    write_report([compared(path)], manifest, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;$x$" in page
    assert "<script" not in page
    assert page.count("<svg") == 3
    assert "0.500" in page
    assert "/in/a.csv" in page
