"""What a manifest says about an output that another job began."""

from pathlib import Path
from typing import Any

import pytest

from scoring.errors import Mismatch
from scoring.manifest import BackboneRecord, FileRecord, Manifest, OptionsRecord, TaskRecord

TASK = TaskRecord(ref="sst2", version=1, digest="sha256:1", columns={"sentence": "body"})
BACKBONE = BackboneRecord(id="embedded", fingerprint="sha256:f", precision="fp32")
OPTIONS = OptionsRecord(
    truncate="error", scores=False, prefix="", separator=None, encoding=None, part_rows=10, part_bytes=100
)
FILE = FileRecord(path="/a.csv", size_bytes=3, sha256="0", rows=1_000)


def manifest(**changes: Any) -> Manifest:
    values = {"superpos": "1", "tasks": (TASK,), "backbone": BACKBONE, "options": OPTIONS, "files": {"a.csv": FILE}}
    return Manifest(**{**values, **changes})


def test_the_same_job_has_no_differences_and_may_have_more_inputs(tmp_path: Path) -> None:
    manifest().write(tmp_path / "m.json")
    begun = Manifest.read(tmp_path / "m.json")
    assert begun == manifest()
    assert manifest(files={"a.csv": FILE, "b.csv": FILE}).differences(begun) == []
    assert manifest(superpos="2").differences(begun) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"tasks": (TASK.model_copy(update={"version": 2, "digest": "sha256:2"}),)},
            "sst2 was version 1, now 2; name sst2@1 to keep the former",
        ),
        ({"tasks": (TASK, TASK)}, "the tasks were sst2, now sst2, sst2"),
        (
            {"tasks": (TASK.model_copy(update={"columns": {"sentence": "text"}}),)},
            "sst2 read sentence from column 'body', now sentence from column 'text'",
        ),
        ({"backbone": BACKBONE.model_copy(update={"precision": "int8"})}, "the precision was fp32, now int8"),
        ({"options": OPTIONS.model_copy(update={"scores": True})}, "--scores was off, now on"),
        ({"options": OPTIONS.model_copy(update={"prefix": "p_"})}, "--prefix was not set, now p_"),
        (
            {"files": {"a.csv": FILE.model_copy(update={"sha256": "1", "rows": 1_001})}},
            "input /a.csv was changed: 1,000 rows then, 1,001 now",
        ),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], expected: str) -> None:
    assert manifest(**changes).differences(manifest()) == [expected]


def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(Mismatch, match="is not a manifest that this version reads"):
        Manifest.read(tmp_path / "m.json")
    assert Manifest.read(tmp_path / "none.json") is None
