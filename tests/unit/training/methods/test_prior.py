"""A prior's file: what is written is read, and what does not fit is refused in words."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.methods import H, prior_of

from training.errors import InvalidArguments
from training.methods.prior import PRIOR, Prior, read_prior

FINGERPRINT, WIDTH = "sha256:none", H


def written(folder: Path) -> Prior:
    prior = prior_of("mpt")
    assert prior is not None
    return dataclasses.replace(prior, sources=("sha256:aa", "sha256:bb")).write(folder)


def test_a_prior_is_read_as_it_was_written_and_known_by_its_digest(tmp_path: Path) -> None:
    prior = written(tmp_path)
    found = read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="shared")
    assert (found.digest, found.sources, found.kind) == (prior.digest, ("sha256:aa", "sha256:bb"), "shared")
    assert found.digest.startswith("sha256:")
    for name, tensor in prior.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
    assert written(tmp_path / "again").digest == prior.digest


def test_a_prior_of_another_kind_or_backbone_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(InvalidArguments, match="it holds a 'shared', expected a 'subspace'"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="subspace")
    with pytest.raises(InvalidArguments, match="trained on backbone sha256:none, expected sha256:other"):
        read_prior(tmp_path, fingerprint="sha256:other", width=WIDTH, kind="shared")


def test_a_folder_without_a_prior_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments, match=f"has no {PRIOR}, expected a folder of 'superpos library share'"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="shared")
    written(tmp_path)
    data = (tmp_path / PRIOR).read_bytes()
    (tmp_path / PRIOR).write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidArguments, match=f"cannot read {PRIOR}"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="shared")


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("column", torch.ones(1), r"column has shape \[1\], expected \[5\]"),
        ("row", torch.ones(1), rf"row has shape \[1\], expected \[{WIDTH}\]"),
        ("shared", torch.ones(5, WIDTH + 1), rf"shared has shape \[5, {WIDTH + 1}\], expected \[P, {WIDTH}\]"),
        ("shared", torch.ones(5), r"shared has shape \[5\]"),
        ("row", torch.ones(WIDTH, dtype=torch.float64), r"row is torch.float64, expected torch.float32"),
        ("shared", torch.full((5, WIDTH), torch.nan), "shared has values that are not finite"),
        ("more", torch.ones(1), "its tensors are .*'more'.*, expected"),
    ],
)
def test_tensors_that_do_not_fit_each_other_or_the_backbone_are_refused(
    tmp_path: Path, name: str, tensor: torch.Tensor, said: str
) -> None:
    tensors = {"shared": torch.ones(5, WIDTH), "column": torch.ones(5), "row": torch.ones(WIDTH)} | {name: tensor}
    metadata = {"prior": json.dumps({"kind": "shared", "fingerprint": FINGERPRINT, "sources": []})}
    (tmp_path / PRIOR).write_bytes(safetensors.torch.save(tensors, metadata=metadata))
    with pytest.raises(InvalidArguments, match=said):
        read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="shared")


@pytest.mark.parametrize(
    "header", ['{"kind": "shared"}', "[" * 100_000, '{"kind": "x", "fingerprint": "", "sources": 1}']
)
def test_a_header_that_says_something_else_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / PRIOR).write_bytes(safetensors.torch.save({"shared": torch.ones(1)}, metadata={"prior": header}))
    with pytest.raises(InvalidArguments, match=f"cannot read {PRIOR}"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, width=WIDTH, kind="shared")
