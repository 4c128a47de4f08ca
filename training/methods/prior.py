"""`Prior`: what training over many source tasks leaves for MPT or IPT to start a new task from.

It is a folder with one file of tensors, whose header names the kind, the backbone and the source prompts. The digest of
that file identifies it in a run's provenance, as the digest of an adapter does.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from adapters.adapter import PromptAdapter
from adapters.atomic_files import atomic_write
from adapters.errors import InvalidAdapter
from adapters.regular_files import read_regular
from adapters.tensor_files import read_metadata
from training.config.choices import MethodName
from training.errors import InvalidArguments

PRIOR = "prior.safetensors"
MAX_PRIOR_BYTES = 1 << 30
_ENTRY = "prior"
"""The entry of the file's metadata."""
PriorKind = Literal["shared", "subspace"]
"""`shared`: the shared prompt of MPT; `subspace`: the decoder of IPT."""

AXES: dict[PriorKind, Mapping[str, str]] = {
    "shared": {"shared": "PH", "column": "P", "row": "H"},
    "subspace": {"inner": "md", "inner_bias": "m", "outer": "PHm", "outer_bias": "PH"},
}
"""The tensors of each kind, with a letter per axis."""
_COMMANDS: dict[PriorKind, str] = {"shared": "share", "subspace": "subspace"}


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
        data = safetensors.torch.save(tensors, metadata={_ENTRY: json.dumps(header)})
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write({folder / PRIOR: data}, synced=True)
        return Prior(self.kind, tensors, self.fingerprint, self.sources, _digest(data))


PRIORS: dict[MethodName, PriorKind] = {"mpt": "shared", "ipt": "subspace"}
"""The methods that start from a prior."""
Source = PromptAdapter | Prior
"""One that a method starts from."""


def read_prior(folder: Path, *, fingerprint: str, width: int, kind: PriorKind) -> Prior:
    """Read the prior of a folder.

    Args:
        fingerprint: of the backbone
        width: H of the backbone

    Raises:
        InvalidArguments: the folder holds no valid prior of this kind, or one for another backbone
    """
    try:
        data = read_regular(folder / PRIOR, max_bytes=MAX_PRIOR_BYTES)
        tensors = safetensors.torch.load(data)
        header = _Header.model_validate_json(read_metadata(data, PRIOR, [_ENTRY])[_ENTRY])
    except FileNotFoundError as exc:
        raise InvalidArguments(
            f"source {folder} has no {PRIOR}, expected a folder of 'superpos library {_COMMANDS[kind]}'"
        ) from exc
    except (OSError, ValueError, KeyError, RecursionError, InvalidAdapter, safetensors.SafetensorError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise InvalidArguments(f"source {folder}: cannot read {PRIOR}: {reason}") from exc
    if header.kind != kind:
        raise InvalidArguments(
            f"source {folder}: it holds a {header.kind!r}, expected a {kind!r} of 'superpos library {_COMMANDS[kind]}'"
        )
    if header.fingerprint != fingerprint:
        raise InvalidArguments(
            f"source {folder}: it was trained on backbone {header.fingerprint}, expected {fingerprint}"
        )
    if fault := _fault(tensors, AXES[kind], width=width):
        raise InvalidArguments(f"source {folder}: {fault}")
    return Prior(header.kind, tensors, header.fingerprint, header.sources, _digest(data))


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: PriorKind
    fingerprint: str
    sources: tuple[str, ...]


def _fault(tensors: Mapping[str, Tensor], axes: Mapping[str, str], *, width: int) -> str | None:
    """Return what is wrong with the tensors of a prior; None if nothing is."""
    if tensors.keys() != axes.keys():
        return f"its tensors are {sorted(tensors)}, expected {sorted(axes)}"
    sizes = {"H": width}
    for name, letters in axes.items():
        tensor = tensors[name]
        if tensor.dtype != torch.float32:
            return f"{name} is {tensor.dtype}, expected torch.float32"
        expected = [sizes.get(letter, letter) for letter in letters]
        if tensor.ndim != len(letters) or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(letters, tensor.shape, strict=True)
        ):
            return f"{name} has shape {list(tensor.shape)}, expected [{', '.join(map(str, expected))}]"
        if not torch.isfinite(tensor).all():
            return f"{name} has values that are not finite"
    return None


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
