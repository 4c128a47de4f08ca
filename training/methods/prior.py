"""`Prior`: what training over many source tasks leaves for MPT or IPT to start a new task from.

It is a folder with one file of tensors, whose header names the kind, the backbone and the source prompts. The digest of
that file identifies it in a run's provenance, as the digest of an adapter does.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors
import safetensors.torch
from torch import Tensor

from adapters.adapter import PromptAdapter
from adapters.atomic_files import atomic_write
from adapters.regular_files import read_regular
from training.config.choices import MethodName
from training.errors import InvalidArguments

PRIOR = "prior.safetensors"
MAX_PRIOR_BYTES = 1 << 30
PriorKind = Literal["shared", "subspace"]
"""`shared`: the shared prompt of MPT; `subspace`: the decoder of IPT."""

NAMES: dict[PriorKind, frozenset[str]] = {
    "shared": frozenset({"shared", "column", "row"}),
    "subspace": frozenset({"inner", "inner_bias", "outer", "outer_bias"}),
}
"""The tensors of each kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Tensors that a method starts from, all float32.

    `shared`: P* [P, H], and the mean task vectors u [P] and v [H]. `subspace`: the decoder, W₂ [m, d] with its bias [m]
    and W₃ [P, H, m] with its bias [P, H].
    """

    kind: PriorKind
    tensors: Mapping[str, Tensor]
    fingerprint: str
    """The fingerprint of the backbone that it was trained on."""
    sources: tuple[str, ...]
    """The digests of the source adapters."""
    digest: str = ""
    """The SHA-256 of its file; empty until it is written."""

    def write(self, folder: Path) -> "Prior":
        """Write the file into a folder, and return the prior with its digest."""
        header = {"kind": self.kind, "fingerprint": self.fingerprint, "sources": self.sources}
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in self.tensors.items()}
        data = safetensors.torch.save(tensors, metadata={"prior": json.dumps(header)})
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write({folder / PRIOR: data}, synced=True)
        return Prior(self.kind, tensors, self.fingerprint, self.sources, _digest(data))


PRIORS: dict[MethodName, PriorKind] = {"mpt": "shared", "ipt": "subspace"}
"""The methods that start from a prior."""
Source = PromptAdapter | Prior
"""One that a method starts from."""


def read_prior(folder: Path, *, fingerprint: str, kind: PriorKind) -> Prior:
    """Read the prior of a folder.

    Raises:
        InvalidArguments: the folder holds no valid prior of this kind, or one for another backbone
    """
    path = folder / PRIOR
    try:
        data = read_regular(path, max_bytes=MAX_PRIOR_BYTES)
        with safetensors.safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["prior"])
        tensors = safetensors.torch.load(data)
        prior = Prior(header["kind"], tensors, header["fingerprint"], tuple(header["sources"]), _digest(data))
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as exc:
        raise InvalidArguments(f"source {folder}: cannot read {PRIOR}: {exc}") from exc
    if prior.kind not in get_args(PriorKind) or prior.kind != kind:
        raise InvalidArguments(f"source {folder}: it holds a {prior.kind!r}, expected a {kind!r}")
    if set(tensors) != NAMES[kind]:
        raise InvalidArguments(f"source {folder}: its tensors are {sorted(tensors)}, expected {sorted(NAMES[kind])}")
    if prior.fingerprint != fingerprint:
        raise InvalidArguments(
            f"source {folder}: it was trained on backbone {prior.fingerprint}, expected {fingerprint}"
        )
    return prior


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
