"""Inputs that files, folders and globs name, and the names of their outputs."""

from pathlib import Path

import pytest

from scoring.errors import InvalidInput
from scoring.inputs import find_inputs, is_input
from scoring.outputs import Output, output_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in/a.csv", "in/deep/b.parquet", "in/.hidden.csv", "in/_manifest.jsonl", "in/readme.md", "one.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\na\n")
    return tmp_path


def test_a_folder_is_searched_and_its_names_are_kept(folder: Path) -> None:
    output = output_of([str(folder / "in")], str(folder / "out"))
    assert output.is_folder
    assert list(find_inputs([str(folder / "in")], output)) == ["a.csv", "deep/b.parquet"]
    assert output.file("deep/b.parquet") == folder / "out/deep/b.parquet"
    assert output.rejected("a.csv") == folder / "out/a.csv.rejected.jsonl"


def test_a_glob_keeps_the_names_after_its_fixed_part(folder: Path) -> None:
    output = Output(folder / "out", is_folder=True)
    assert list(find_inputs([f"{folder}/in/*/*.parquet"], output)) == ["deep/b.parquet"]
    assert list(find_inputs([f"{folder}/**/*.csv"], output)) == ["in/a.csv", "one.csv"]


def test_an_output_below_its_input_is_not_read_again(folder: Path) -> None:
    (folder / "in/out").mkdir()
    (folder / "in/out/a.csv").write_text("text\na\n")
    output = output_of([str(folder / "in")], str(folder / "in/out"))
    assert list(find_inputs([str(folder / "in")], output)) == ["a.csv", "deep/b.parquet"]


def test_one_file_has_a_file_as_output_and_a_folder_if_the_output_is_one(folder: Path) -> None:
    one = str(folder / "one.csv")
    assert output_of([one], str(folder / "new.csv")) == Output(folder / "new.csv", is_folder=False)
    assert output_of([one], str(folder / "in")) == Output(folder / "in", is_folder=True)
    assert output_of([one], f"{folder}/new/") == Output(folder / "new", is_folder=True)


def test_inputs_and_outputs_that_do_not_fit_are_refused(folder: Path) -> None:
    one, two = str(folder / "one.csv"), str(folder / "in/a.csv")
    with pytest.raises(InvalidInput, match=r"an output has its input's format, expected a name that ends with \.csv"):
        output_of([one], "out.parquet")
    with pytest.raises(InvalidInput, match="expected a folder for the outputs of several inputs"):
        output_of([one, two], one)
    with pytest.raises(InvalidInput, match="no such file or folder"):
        find_inputs([str(folder / "none.csv")], Output(folder / "out", is_folder=True))
    with pytest.raises(InvalidInput, match="no file that ends with"):
        find_inputs([f"{folder}/*.tsv"], Output(folder / "out", is_folder=True))
    with pytest.raises(InvalidInput, match="would overwrite the input"):
        find_inputs([one], Output(folder / "one.csv", is_folder=False))
    (folder / "other").mkdir()
    (folder / "other/one.csv").write_text("text\nb\n")
    with pytest.raises(InvalidInput, match="would both be written to"):
        find_inputs([one, str(folder / "other/one.csv")], Output(folder / "out", is_folder=True))


def test_arguments_that_look_like_inputs() -> None:
    assert all(map(is_input, ["a.csv", "A.PARQUET", "./data", "part-*", "x?.jsonl"]))
    assert not any(map(is_input, ["sst2", "sst2@3", "sst2@sha256:0123456789ab", "v1.2"]))
