"""`PromptAdapter`: a task's prompt and readout, and what serving needs. Immutable, and identified by its digest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import numpy as np
import rfc8785
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from adapters.arrays import check_finite, check_type, frozen
from adapters.calibration import Calibration
from adapters.errors import InvalidAdapter, NotValidatedInPrecision
from adapters.names import DIGEST_PATTERN
from adapters.profile import ValidationProfile
from adapters.readout import VECTORS, LearnedReadout, ReadoutKind, num_states, schema_version_of
from adapters.task import TaskSpec

MAX_VIRTUAL_TOKENS = 100
MAX_ROW_NORM = 1e5
"""Far above any trained prompt (T5's token embeddings have norms of some hundred) and far below an overflow."""
ReducedPrecision = Literal["bf16", "int8"]
"""A precision whose labels may differ from those in float32."""
LABEL_AGREEMENT: Mapping[ReducedPrecision, str] = {"bf16": "bf16_label_agreement", "int8": "int8_label_agreement"}
"""The provenance metric with the share of rows whose label is the same in a precision and in float32, 0 to 1."""
MIN_LABEL_AGREEMENT: Mapping[ReducedPrecision, float] = {"bf16": 0.995, "int8": 0.98}
"""The share from which on a server answers in a precision."""

_MAX_ITEMS = 256

Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_size(value: object) -> object:
    """Reject a large mapping before its items are validated."""
    if isinstance(value, Mapping) and len(value) > _MAX_ITEMS:
        raise ValueError(f"{len(value)} items, at most {_MAX_ITEMS} are allowed")
    return value


Small = BeforeValidator(_check_size)


class BackboneRef(_Frozen):
    """The backbone that a prompt was trained for."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    revision: Annotated[str, Field(max_length=256)]
    fingerprint: Digest


class Provenance(_Frozen):
    """The origin of a prompt. Nothing here changes an answer."""

    method: Annotated[str, Field(max_length=64)]
    seed: int | None = None
    sampled_token_ids: Annotated[tuple[int, ...], FailFast()] = ()
    """SuperPos: the ids of the m vocabulary tokens whose embeddings were superposed."""
    hyperparameters: Annotated[dict[str, str | int | float | bool | None], Small] = {}
    metrics: Annotated[dict[str, float], Small] = {}
    data: Annotated[dict[str, str | int], Small] = {}
    """The training data: file names, row counts and sha256 sums."""
    software: Annotated[dict[str, str], Small] = {}


class Manifest(_Frozen):
    """`superpos.json`: everything in an adapter except its numbers."""

    schema_version: Literal[1, 2, 3] = 1
    """2 if the readout is learned, 3 if it is `joint`, so that a server that reads only older versions refuses it."""
    readout: ReadoutKind = "words"
    task: TaskSpec
    backbone: BackboneRef
    calibration: Calibration = Calibration()
    provenance: Provenance
    validation: ValidationProfile | None = None
    """Its answers on held-out rows; without them, live answers are not monitored for drift."""

    def check_fingerprint(self, fingerprint: str) -> None:
        """Refuse an adapter of another backbone than that with a fingerprint (`InvalidAdapter`)."""
        if self.backbone.fingerprint != fingerprint:
            trained_on = f"{self.backbone.fingerprint} ({self.backbone.id})"
            raise InvalidAdapter("backbone fingerprint", trained_on, f"{fingerprint}, the backbone's")

    @model_validator(mode="after")
    def _version_of_this_readout(self) -> Self:
        expected = schema_version_of(self.readout)
        if self.schema_version != expected:
            raise ValueError(f"schema_version {self.schema_version} with readout {self.readout!r}, expected {expected}")
        return self

    @field_validator("task")
    @classmethod
    def _readout_of_this_kind(cls, task: TaskSpec, info: ValidationInfo) -> TaskSpec:
        if task.is_multi_label and info.data.get("readout") == "words":
            raise ValueError("kind 'multi_label' with readout 'words', expected 'soft', 'pooled' or 'joint'")
        return task

    @field_validator("calibration")
    @classmethod
    def _thresholds_of_this_task(cls, calibration: Calibration, info: ValidationInfo) -> Calibration:
        task: TaskSpec | None = info.data.get("task")  # None if it is invalid itself
        if task is None:
            return calibration
        thresholds, num_labels = calibration.label_thresholds, len(task.labels)
        if task.is_multi_label and calibration.abstain_threshold is not None:
            raise ValueError("abstain_threshold with kind 'multi_label', expected label_thresholds")
        if not task.is_multi_label and thresholds is not None:
            raise ValueError(f"label_thresholds with kind {task.kind!r}, expected none")
        if thresholds is not None and len(thresholds) != num_labels:
            raise ValueError(f"label_thresholds has {len(thresholds)} values, expected {num_labels}, one per label")
        return calibration

    @model_validator(mode="after")
    def _profile_of_this_task(self) -> Self:
        num_labels = len(self.task.labels)
        if self.validation is not None and len(self.validation.label_counts) != num_labels:
            raise ValueError(
                f"validation.label_counts has {len(self.validation.label_counts)} counts, expected {num_labels}, "
                "one per label"
            )
        return self


@dataclass(frozen=True, slots=True, eq=False)
class PromptAdapter:
    """A prompt, its readout and its manifest.

    Raises:
        InvalidAdapter: the prompt or the readout has a wrong type or shape, or values that are not finite or out of
            bounds; or the readout is not the one that the manifest names
    """

    prompt: NDArray[np.float32]  # [P, H], read-only; P may be 0 with a learned readout
    manifest: Manifest
    readout: LearnedReadout | None = None
    """None if the label words are the readout."""
    digest: str = field(init=False)
    """`sha256:…` of the manifest as canonical JSON (RFC 8785) and of the shapes and bytes of prompt and readout.

    Fields with default values are left out, so that adding a field keeps older digests.
    """

    def __post_init__(self) -> None:
        self._check_readout()
        _check_prompt(self.prompt, fewest=1 if self.readout is None else 0)
        object.__setattr__(self, "prompt", frozen(self.prompt))
        object.__setattr__(self, "digest", _digest(self.prompt, self.manifest, self.readout))

    @property
    def num_virtual_tokens(self) -> int:
        """P."""
        return int(self.prompt.shape[0])

    @property
    def width(self) -> int:
        """H."""
        return int(self.prompt.shape[1])

    @property
    def spec(self) -> TaskSpec:
        return self.manifest.task

    def _check_readout(self) -> None:
        kind, readout = self.manifest.readout, self.readout
        if (readout is None) != (kind == "words"):
            found = "no label vectors" if readout is None else "label vectors"
            raise InvalidAdapter(
                "readout", found, f"{kind!r} needs {'none' if kind == 'words' else 'a vector for each label'}"
            )
        if readout is None:
            return
        if readout.num_labels != len(self.spec.labels):
            raise InvalidAdapter(VECTORS, f"{readout.num_labels} labels", f"{len(self.spec.labels)}, the task's")
        if readout.width % num_states(kind):
            raise InvalidAdapter(f"{VECTORS} width", readout.width, f"an even number, with the readout {kind!r}")
        if self.prompt.ndim == 2 and readout.width != num_states(kind) * self.prompt.shape[1]:
            times = "twice " if num_states(kind) == 2 else ""
            raise InvalidAdapter(f"{VECTORS} width", readout.width, f"{times}{self.prompt.shape[1]}, the prompt's")

    def check_backbone(self, *, fingerprint: str, width: int) -> None:
        """Reject a prompt that was trained for another model.

        Raises:
            InvalidAdapter: the width or the fingerprint differs
        """
        if self.width != width:
            raise InvalidAdapter("prompt width", self.width, f"{width}, the backbone's")
        self.manifest.check_fingerprint(fingerprint)

    def check_precision(self, precision: ReducedPrecision) -> None:
        """Reject an adapter that was not validated in a precision, or whose labels differ there too often.

        Raises:
            NotValidatedInPrecision: with the label agreement, or that it was not measured
        """
        found = self.manifest.provenance.metrics.get(LABEL_AGREEMENT[precision])
        if found is None or found < MIN_LABEL_AGREEMENT[precision]:
            raise NotValidatedInPrecision(
                f"label agreement of {precision} with fp32",
                "not measured" if found is None else found,
                f"at least {MIN_LABEL_AGREEMENT[precision]}; measure it with 'superpos evaluate <folder> <task>.yaml "
                f"--{precision} --record' and push the folder again, or serve with --precision fp32, or, regardless of "
                "it, with SUPERPOS_FORCE_PRECISION=true",
            )


def no_prompt(width: int) -> NDArray[np.float32]:
    """Return the prompt of an adapter that has only a readout, [0, H]."""
    return np.zeros((0, width), dtype=np.float32)


def _check_prompt(prompt: NDArray[np.float32], *, fewest: int) -> None:
    check_type("prompt", prompt)
    if prompt.ndim != 2 or prompt.shape[1] < 1:
        raise InvalidAdapter("prompt shape", str(list(prompt.shape)), "[virtual tokens, width]")
    if not fewest <= prompt.shape[0] <= MAX_VIRTUAL_TOKENS:
        raise InvalidAdapter("virtual tokens", prompt.shape[0], f"{fewest} to {MAX_VIRTUAL_TOKENS}")
    check_finite("prompt", prompt)
    norms = np.linalg.norm(prompt.astype(np.float64), axis=1)  # [P]
    if norms.max(initial=0) > MAX_ROW_NORM:
        raise InvalidAdapter(
            "prompt row norm", f"{norms.max():.3g} in row {norms.argmax()}", f"at most {MAX_ROW_NORM:g}"
        )


def _digest(prompt: NDArray[np.float32], manifest: Manifest, readout: LearnedReadout | None) -> str:
    try:
        canonical = rfc8785.dumps(manifest.model_dump(mode="json", exclude_defaults=True))
    except rfc8785.CanonicalizationError as exc:
        raise InvalidAdapter("superpos.json", str(exc), "values that canonical JSON (RFC 8785) can represent") from exc
    header = f"superpos-adapter {len(canonical)} {prompt.shape[0]} {prompt.shape[1]}\n".encode()
    learned = b"" if readout is None else readout.to_bytes()
    return f"sha256:{hashlib.sha256(header + canonical + prompt.tobytes() + learned).hexdigest()}"
