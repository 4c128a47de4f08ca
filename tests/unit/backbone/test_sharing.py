"""Weights out of a mapped file: the same numbers, answers and identity."""

from pathlib import Path

import pytest
import torch
from support.backbone import mixed_rows

from backbone import BackboneCacheError, load, pack


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_shared_weights_answer_to_the_bit_as_a_processs_own(
    folder: str, cache_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = str(request.getfixturevalue(folder))
    own = load(path, cache_dir=cache_dir)
    shared = load(path, cache_dir=tmp_path, share_weights=True)
    again = load(path, cache_dir=tmp_path, share_weights=True)
    assert len(list((tmp_path / "shared").glob("*.safetensors"))) == 1
    tensors = shared.weights.tensors()
    assert own.weights.tensors().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in own.weights.tensors().items())
    assert own.identity == shared.identity == again.identity
    rows, table, label_sets = mixed_rows(own)
    tries = [own.label_trie(labels) for labels in label_sets]
    with torch.inference_mode():
        expected, *found = (each.score(each.encode(pack(rows), table), tries) for each in (own, shared, again))
    assert all(torch.equal(expected, scores) for scores in found)


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tiny_t5: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a file where a folder belongs")
    with pytest.raises(BackboneCacheError, match="cannot share weights in"):
        load(str(tiny_t5), cache_dir=tmp_path, share_weights=True)
