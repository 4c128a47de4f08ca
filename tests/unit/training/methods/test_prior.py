"""A prior's file: what is written is read, and what does not fit is refused in words."""

import dataclasses
from pathlib import Path

import pytest
import torch
from support.methods import prior_of

from training.errors import InvalidArguments
from training.methods.prior import PRIOR, Prior, read_prior

FINGERPRINT = "sha256:none"


def written(folder: Path) -> Prior:
    prior = prior_of("mpt")
    assert prior is not None
    return dataclasses.replace(prior, sources=("sha256:aa", "sha256:bb")).write(folder)


def test_a_prior_is_read_as_it_was_written_and_known_by_its_digest(tmp_path: Path) -> None:
    prior = written(tmp_path)
    found = read_prior(tmp_path, fingerprint=FINGERPRINT, kind="shared")
    assert (found.digest, found.sources, found.kind) == (prior.digest, ("sha256:aa", "sha256:bb"), "shared")
    assert found.digest.startswith("sha256:")
    for name, tensor in prior.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
    assert written(tmp_path / "again").digest == prior.digest


def test_a_prior_of_another_kind_or_backbone_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(InvalidArguments, match="it holds a 'shared', expected a 'subspace'"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, kind="subspace")
    with pytest.raises(InvalidArguments, match="trained on backbone sha256:none, expected sha256:other"):
        read_prior(tmp_path, fingerprint="sha256:other", kind="shared")


def test_a_folder_without_a_prior_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArguments, match=f"cannot read {PRIOR}"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, kind="shared")
    written(tmp_path)
    data = (tmp_path / PRIOR).read_bytes()
    (tmp_path / PRIOR).write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidArguments, match=f"cannot read {PRIOR}"):
        read_prior(tmp_path, fingerprint=FINGERPRINT, kind="shared")
