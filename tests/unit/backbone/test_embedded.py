"""The embedded backbone's folder in the cache: used while its checksums hold, converted again when they do not."""

import hashlib
import json
from pathlib import Path

import pytest

from backbone import embedded


@pytest.mark.parametrize("damage", [b"", b"weighty", None])
def test_a_damaged_folder_is_converted_again(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []
    monkeypatch.setattr(embedded, "_convert", lambda source, folder: converted.append(folder))
    folder = tmp_path / f"embedded-{embedded.WHEEL_VERSION}"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"weights")
    sums = {weights.name: hashlib.sha256(b"weights").hexdigest()}
    (folder / embedded.MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
    assert embedded.prepare(tmp_path, print) == folder
    assert not converted
    if damage is None:
        weights.unlink()
    else:
        weights.write_bytes(damage)
    assert embedded.prepare(tmp_path, print) == folder
    assert converted == [folder]
