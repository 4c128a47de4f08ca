"""The GPU kit: weights in one compact file, and parts that fail, are left out or are stopped each on their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbone import embedded, load
from benchmarks.gpu import weights
from benchmarks.gpu.weights import DamagedWeights, TooLarge


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
    folder = embedded.prepare(cache_dir, print)
    assert weights.pack(folder, tmp_path / "weights.npz") <= weights.MAX_BYTES
    assert contents(weights.unpack(tmp_path / "weights.npz", tmp_path / "there")) == contents(folder)
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
