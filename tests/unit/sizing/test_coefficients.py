"""Coefficients: what a batch takes, what was not measured, and their file."""

import json
from pathlib import Path

import pytest
from support.sizing import batch_time, coefficients

from sizing.coefficients import read, shipped, write
from sizing.errors import InvalidCoefficients, NotMeasured


def test_a_batch_takes_its_own_time_that_of_its_rows_and_that_of_its_tokens() -> None:
    assert batch_time(batch_s=0.01, row_s=0.001, token_s=1e-4).seconds(8, 500) == pytest.approx(0.01 + 0.008 + 0.05)


def test_a_measured_number_of_threads_is_taken_as_it_is() -> None:
    found = coefficients()
    assert [found.batch_time("fp32", threads) for threads in (1, 2)] == list(found.batches)


def test_other_numbers_of_threads_follow_amdahls_law_through_the_measured_ones() -> None:
    found = coefficients(batch_time(threads=1, token_s=2e-4), batch_time(threads=2, token_s=1.2e-4))
    # 0.4e-4 alone and 1.6e-4 ÷ threads
    assert found.batch_time("fp32", 4).token_s == pytest.approx(0.8e-4)
    assert found.batch_time("fp32", 8).token_s == pytest.approx(0.6e-4)
    assert found.batch_time("fp32", 64).token_s > 0.4e-4
    assert found.batch_time("fp32", 8).batch_s == pytest.approx(0.01), "what more threads do not shorten stays"


def test_more_than_proportional_gains_are_not_extrapolated_below_nothing() -> None:
    found = coefficients(batch_time(threads=1, token_s=3e-4), batch_time(threads=2, token_s=1e-4))
    assert found.batch_time("fp32", 4).token_s == pytest.approx(0.5e-4)


def test_what_was_not_measured_is_refused_with_what_was() -> None:
    with pytest.raises(NotMeasured, match="precision 'int8' was not measured, expected fp32"):
        coefficients().batch_time("int8", 2)
    with pytest.raises(NotMeasured, match="measured with 2 threads only, expected --cores 2"):
        coefficients(batch_time()).batch_time("fp32", 4)


def test_the_coefficients_of_the_package_name_their_machine_and_cover_its_precisions() -> None:
    found = shipped()
    assert {"fp32", "int8"} <= set(found.precisions)
    assert (found.origin.backbone, found.origin.width) == ("embedded", 512)
    assert found.origin.command
    most = max(found.threads_of("fp32"))
    assert found.batch_time("int8", most).seconds(16, 1_000) < found.batch_time("fp32", most).seconds(16, 1_000)


def test_a_written_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    write(coefficients(), path)
    assert read(path) == coefficients()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_s": -1}, r"request_s is -1: .*greater than or equal to 0"),
        ({"batches": []}, "batches is"),
        ({"more": 1}, "more is 1"),
        ({"origin": {}}, "origin.processor is nothing"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_member_and_the_command(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps({**coefficients().model_dump(mode="json"), **change}), encoding="utf-8")
    with pytest.raises(InvalidCoefficients, match=message) as caught:
        read(path)
    assert "superpos size --measure FILE" in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    path.write_text("batch_s: 1", encoding="utf-8")
    with pytest.raises(InvalidCoefficients, match=r"ours\.json is not JSON"):
        read(path)
