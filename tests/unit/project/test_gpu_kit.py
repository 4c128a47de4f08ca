"""The GPU kit: weights in one compact file, and parts that fail, are left out or are stopped each on their own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from backbone import embedded, load
from benchmarks.gpu import __main__ as kit
from benchmarks.gpu import weights
from benchmarks.gpu.kit import PARTS, Outcome, Part, run_parts
from benchmarks.gpu.part import Setup
from benchmarks.gpu.weights import DamagedWeights, TooLarge

RUN_NOTHING = ("--device", "cpu", "--budget-s", "1")


def converted_folder(cache_dir: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a folder as the embedded backbone's conversion does."""
    folder = embedded.folder_in(cache_dir)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text('{"text": "ä' + "b" * 100 + '"}', encoding="utf-8")
    embedded.write_manifest(folder)
    return folder


def int8_tensors() -> dict[str, torch.Tensor]:
    """Make matrices of int8 values times a scale, a vector of any values, and a matrix with both zeros."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-128, 128, (60, 40), generator=generator)
    return {
        "a.weight": (values - 3).float() * 0.0123,
        "norm.weight": torch.randn(300, generator=generator),
        "zeros.weight": torch.tensor([[0.0, -0.0], [1.5, 0.0]]),
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packed_weights_give_every_file_back_to_the_byte(tmp_path: Path) -> None:
    folder = converted_folder(tmp_path / "here", int8_tensors())
    size = weights.pack(folder, tmp_path / "weights.npz")
    assert size == (tmp_path / "weights.npz").stat().st_size
    unpacked = weights.unpack(tmp_path / "weights.npz", tmp_path / "there")
    assert contents(unpacked) == contents(folder)
    assert unpacked == embedded.prepare(tmp_path / "there", pytest.fail)


@pytest.mark.slow
def test_the_embedded_backbone_fits_and_is_loaded_from_its_packed_file(tmp_path: Path, cache_dir: Path) -> None:
    file = tmp_path / "weights.npz"
    ended = CliRunner().invoke(kit.app, ["pack", "--out", str(file), "--cache-dir", str(cache_dir)])
    assert ended.exit_code == 0
    size = json.loads(ended.stdout.splitlines()[-1])["figures"]["size_bytes"]
    assert size == file.stat().st_size <= weights.MAX_BYTES
    there = ["--weights", str(file), "--cache-dir", str(tmp_path / "there")]
    ended = CliRunner().invoke(kit.app, ["run", "--out", str(tmp_path / "gpu.json"), *RUN_NOTHING, *there])
    assert ended.exit_code == 0
    assert contents(embedded.folder_in(tmp_path / "there")) == contents(embedded.prepare(cache_dir, print))
    assert load("embedded", cache_dir=tmp_path / "there").identity == load("embedded", cache_dir=cache_dir).identity


def test_damaged_weights_are_refused_and_the_folder_is_left_as_it_was(tmp_path: Path) -> None:
    folder = converted_folder(tmp_path / "here", int8_tensors())
    file = tmp_path / "weights.npz"
    weights.pack(folder, file)
    whole, before = file.read_bytes(), contents(folder)
    middle = len(whole) // 2
    for damaged in (b"", b"text", whole[:middle], whole[:middle] + b"\x00\x01" + whole[middle + 2 :]):
        file.write_bytes(damaged)
        with pytest.raises(DamagedWeights, match="write it again"):
            weights.unpack(file, tmp_path / "here")
    np.save(tmp_path / "array.npy", np.arange(3))
    with pytest.raises(DamagedWeights):
        weights.unpack(tmp_path / "array.npy", tmp_path / "here")
    assert contents(folder) == before
    assert [path.name for path in (tmp_path / "here").iterdir()] == [folder.name]


def test_weights_with_another_checksum_than_when_they_were_packed_are_refused(tmp_path: Path) -> None:
    folder = converted_folder(tmp_path / "here", int8_tensors())
    weights.pack(folder, tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz") as packed:
        arrays = dict(packed)
    arrays["values/a.weight"] = arrays["values/a.weight"] * np.float32(1.5)
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(DamagedWeights, match="checksum"):
        weights.unpack(tmp_path / "weights.npz", tmp_path / "there")


def test_weights_that_are_not_int8_and_large_are_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 1 << 20)
    folder = converted_folder(tmp_path / "here", {"a.weight": torch.randn(600, 600)})
    with pytest.raises(TooLarge, match="at most 1"):
        weights.pack(folder, tmp_path / "weights.npz")
    assert not (tmp_path / "weights.npz").exists()


def run_kit(folder: Path, cache_dir: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Run the kit on a CPU; returns its exit code and its result."""
    out = folder / "gpu.json"
    common = ["run", "--out", str(out), "--device", "cpu", "--quick", "--cache-dir", str(cache_dir)]
    ended = CliRunner().invoke(kit.app, [*common, *arguments])
    result = json.loads(ended.stdout.splitlines()[-1])
    assert json.loads(out.read_text(encoding="utf-8")) == result
    return ended.exit_code, result


@pytest.mark.slow
@pytest.mark.parametrize("name", [part.name for part in PARTS if part.name != "grid"])
def test_a_part_runs_through_on_a_cpu(
    name: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPERPOS_DATA", raising=False)
    code, result = run_kit(tmp_path, cache_dir, "--parts", name)
    assert code == 0, result
    figures = result["figures"]
    assert isinstance(figures, dict)
    assert figures
    assert all(figure.startswith(f"{name}_") for figure in figures)
    if name == "parity":
        assert max(figures[f"parity_fp32_{way}_vs_fp32_max_difference"] for way in ("sdpa", "flex")) <= 1e-4
        assert figures["parity_fp32_flex_vs_fp32_label_agreement"] == 1


@pytest.mark.slow
@pytest.mark.data
def test_the_grid_trains_on_real_rows(tmp_path: Path, cache_dir: Path, data_dir: Path) -> None:
    code, result = run_kit(tmp_path, cache_dir, "--parts", "grid")
    assert code == 0, result
    assert list(result["figures"]) == ["grid_superpos_words_accuracy"]  # type: ignore[call-overload]


@pytest.mark.slow
def test_a_part_that_fails_or_is_stopped_or_is_left_out_says_why_and_the_next_one_runs(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPERPOS_DATA", raising=False)
    by_name = {part.name: part for part in PARTS}
    parts = (
        Part("broken", "benchmarks.gpu.no_such_part", 60),
        replace(by_name["parity"], limit_s=0.1),
        by_name["grid"],
    )
    monkeypatch.setattr(kit, "PARTS", parts)
    code, result = run_kit(tmp_path, cache_dir, "--parts", "broken,parity,grid")
    assert code == 1
    assert result["figures"] == {}
    outcomes = result["detail"]["parts"]  # type: ignore[index]
    assert [(name, outcome["status"]) for name, outcome in outcomes.items()] == [
        ("broken", "failed"),
        ("parity", "failed"),
        ("grid", "left out"),
    ]
    assert "No module named benchmarks.gpu.no_such_part" in outcomes["broken"]["reason"]
    assert outcomes["parity"]["reason"] == "it was stopped after 0.1 s"
    assert "SUPERPOS_DATA" in outcomes["grid"]["reason"]


def test_parts_that_do_not_fit_into_the_time_are_left_out(tmp_path: Path) -> None:
    seen: list[Outcome] = []
    setup = Setup(device="cpu", cache_dir=tmp_path, quick=True)
    outcomes = run_parts(PARTS, setup, budget_s=5, on_outcome=seen.append)
    assert outcomes == seen
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [(part.name, "left out") for part in PARTS]
    assert "were left of the time" in outcomes[0].reason


def test_the_help_says_that_the_kit_is_untested_on_gpu() -> None:
    for arguments in (["--help"], ["run", "--help"]):
        shown = CliRunner().invoke(kit.app, arguments, env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
        assert "untested on gpu" in shown.output.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "parity,speed"], "expected names of parity,tests,forward,http,stack,grid"),
        (["--device", "tpu"], "'tpu' is invalid"),
    ],
)
def test_a_part_or_a_device_that_does_not_exist_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(kit.app, ["run", "--out", str(tmp_path / "gpu.json"), *arguments])
    assert ended.exit_code == 1
    assert message in ended.stderr
