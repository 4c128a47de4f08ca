"""Adapters as files: a valid PEFT folder plus `superpos.json` and a learned readout.

Input is untrusted, output is canonical.

Reading checks names, sizes, JSON, PEFT fields, and the tensor's name, dtype, shape and values. Nothing is unpickled.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from adapters import strict_json
from adapters.adapter import MAX_VIRTUAL_TOKENS, BackboneRef, Manifest, PromptAdapter, Provenance, no_prompt
from adapters.atomic_files import atomic_write
from adapters.errors import InvalidAdapter, first_error
from adapters.printable import check_texts
from adapters.readout import BIAS, VECTORS, LearnedReadout, num_states, schema_version_of
from adapters.regular_files import NotRegular, check_no_links, open_regular
from adapters.task import TaskSpec
from adapters.tensor_files import read_metadata, read_tensors, write_tensors

CONFIG, WEIGHTS, READOUT, MANIFEST, CARD = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "readout.safetensors",
    "superpos.json",
    "README.md",
)
SIZE_LIMITS = {CONFIG: 64 << 10, WEIGHTS: 4 << 20, READOUT: 18 << 20, MANIFEST: 1 << 20, CARD: 1 << 20}
"""In bytes. The largest prompt, 100 × 4,096 float32, has 1.6 MB; the vectors of 1,000 labels on one state 16.4 MB."""
TENSOR = "prompt_embeddings"
_LABELS = "labels"
_READ_VERSIONS = (1, 2, 3)
BUNDLED = Path(__file__).parent / "bundled"

Files = Mapping[str, bytes]


def to_files(adapter: PromptAdapter, *, card: str = "") -> dict[str, bytes]:
    """Return an adapter's files; equal adapters give equal bytes."""
    files = {MANIFEST: _json_bytes(_manifest_values(adapter.manifest))}
    if adapter.num_virtual_tokens:
        files |= {
            CONFIG: _json_bytes(_peft_config(adapter)),
            WEIGHTS: write_tensors({TENSOR: adapter.prompt}),
        }
    if (readout := adapter.readout) is not None:
        files[READOUT] = write_tensors(
            {VECTORS: readout.label_vectors, BIAS: readout.label_bias},
            metadata={_LABELS: json.dumps(adapter.spec.label_names, ensure_ascii=False)},
        )
    return files | ({CARD: card.encode()} if card else {})


def content_id(files: Files) -> str:
    """Return the SHA-256 of a set of files: of all names and bytes, unlike the digest, which is the adapter's."""
    names = sorted(files)
    listing = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names)
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


def from_files(files: Files) -> PromptAdapter:
    """Read an adapter from the files that `to_files` writes.

    Raises:
        InvalidAdapter: a check failed; has the check, the value, and what was expected
    """
    _check_names_and_sizes(files)
    _require(files, MANIFEST)
    manifest = _read_manifest(files)
    readout = _read_readout(files, manifest)
    if readout is not None and files.keys().isdisjoint((CONFIG, WEIGHTS)):
        return PromptAdapter(no_prompt(readout.width // num_states(manifest.readout)), manifest, readout)
    _require(files, CONFIG, WEIGHTS)
    return PromptAdapter(_read_prompt(files), manifest, readout)


def from_peft_files(files: Files, *, task: TaskSpec, backbone: BackboneRef) -> PromptAdapter:
    """Read a PEFT prompt-tuning folder that has no `superpos.json`: its task and backbone are given."""
    _check_names_and_sizes(files)
    _require(files, CONFIG, WEIGHTS)
    provenance = Provenance(method="peft import")
    return PromptAdapter(_read_prompt(files), Manifest(task=task, backbone=backbone, provenance=provenance))


def stated_backbone(files: Files) -> tuple[object, object]:
    """Return the base model and its revision as `adapter_config.json` names them; None where it names none."""
    if CONFIG not in files:  # a readout without a prompt
        return None, None
    config = _read_json(files, CONFIG)
    return config.get("base_model_name_or_path") or None, config.get("revision") or None


def check_stated_backbone(files: Files) -> None:
    """Refuse an adapter whose `adapter_config.json` names another backbone than its `superpos.json`.

    For files that `from_files` accepts. PEFT would load them for the one, and a server for the other.

    Raises:
        InvalidAdapter: the names or the revisions differ
    """
    known = _read_json(files, MANIFEST)["backbone"]
    stated = dict(zip(("base_model_name_or_path", "revision"), stated_backbone(files), strict=True))
    for key, expected in zip(stated, (known["id"], known["revision"]), strict=True):
        if stated[key] not in (None, expected):
            raise InvalidAdapter(f"{CONFIG}: {key}", repr(stated[key]), f"{expected!r}, as in {MANIFEST}, or null")


CheckName = Literal["files", "manifest", "tensors", "backbone"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One group of checks on an adapter's files."""

    name: CheckName
    faults: tuple[InvalidAdapter, ...] = ()
    is_run: bool = True
    """False if it needs what another check has refused."""


def check_all(files: Files, *, fingerprint: str, width: int) -> tuple[CheckResult, ...]:
    """Run every check that can be run, where `from_files` stops at the first fault.

    Args:
        files: an adapter's
        fingerprint: the backbone's
        width: the backbone's
    """
    in_files = _faults(*(partial(_check_names_and_sizes, {name: data}) for name, data in files.items()))
    present = {name for name in files if name in SIZE_LIMITS and len(files[name]) <= SIZE_LIMITS[name]}
    manifest: Manifest | None = None
    in_manifest: tuple[InvalidAdapter, ...] = ()
    if MANIFEST in present:
        try:
            manifest = _read_manifest(files)
        except InvalidAdapter as exc:
            in_manifest = (exc,)
    is_pooled = manifest is not None and manifest.readout != "words" and READOUT in files
    needed = [MANIFEST] if is_pooled and files.keys().isdisjoint((CONFIG, WEIGHTS)) else [MANIFEST, CONFIG, WEIGHTS]
    in_files += _faults(*(partial(_require, files, name) for name in needed))
    texts = {name: files[name] for name in present & {CARD}} | ({MANIFEST: files[MANIFEST]} if manifest else {})
    in_manifest += _faults(*(partial(check_texts, {name: data}) for name, data in texts.items()))
    has_prompt = {CONFIG, WEIGHTS} <= present
    readings: list[Callable[[], object]] = [partial(_read_prompt, files)] if has_prompt else []
    if manifest is not None and READOUT in present:
        readings.append(partial(_read_readout, files, manifest))
    in_tensors = _faults(*readings)
    in_backbone: tuple[InvalidAdapter, ...] = ()
    if manifest is not None:
        in_backbone = _faults(partial(manifest.check_fingerprint, fingerprint))
        if has_prompt and not in_tensors:
            in_backbone += _faults(partial(check_stated_backbone, files))
    if not any((in_files, in_manifest, in_tensors, in_backbone)):
        try:
            in_backbone = _faults(partial(from_files(files).check_backbone, fingerprint=fingerprint, width=width))
        except InvalidAdapter as exc:  # values that only the whole adapter shows
            in_tensors = (exc,)
    return (
        CheckResult("files", in_files),
        CheckResult("manifest", in_manifest, is_run=MANIFEST in present),
        CheckResult("tensors", in_tensors, is_run=bool(readings)),
        CheckResult("backbone", in_backbone, is_run=manifest is not None),
    )


def _faults(*checks: Callable[[], object]) -> tuple[InvalidAdapter, ...]:
    found = []
    for check in checks:
        try:
            check()
        except InvalidAdapter as exc:
            found.append(exc)
    return tuple(found)


def write_folder(folder: Path, files: Files, *, beneath: Path | None = None) -> None:
    """Replace the adapter in a folder; unrelated files stay.

    If the disk fills up, the old adapter stays.

    Args:
        folder: the folder, which is created
        files: the adapter's files
        beneath: a parent folder; no folder on the path from it to `folder` may be a link

    Raises:
        OSError: with the name of the file
    """
    folder.mkdir(parents=True, exist_ok=True)
    if beneath is not None:
        check_no_links(folder, beneath=beneath)
    atomic_write({folder / name: data for name, data in files.items()})
    for name in SIZE_LIMITS.keys() - files.keys():
        if (folder / name).is_symlink() or (folder / name).is_file():
            (folder / name).unlink()


def read_folder(folder: Path, *, beneath: Path | None = None) -> dict[str, bytes]:
    """Read the files of an adapter's folder, each up to its size limit; unrelated files are not read.

    Args:
        folder: the folder
        beneath: the parent folder that the user named, if that is not `folder` itself

    Raises:
        InvalidAdapter: no such folder, or one of the files is not a regular file
    """
    if not folder.is_dir():
        raise InvalidAdapter("adapter folder", str(folder), "a directory")
    files = {}
    for name, limit in SIZE_LIMITS.items():
        try:
            with open_regular(folder / name, beneath=beneath) as file:
                files[name] = file.read(limit + 1)
        except (FileNotFoundError, IsADirectoryError):
            continue
        except NotRegular as exc:
            raise InvalidAdapter(str(folder / name), exc.strerror, "a regular file of this folder") from exc
    return files


def bundled_adapters() -> dict[str, dict[str, bytes]]:
    """Return the files of the adapters that come with the package, by task; they fit the embedded backbone."""
    if not BUNDLED.is_dir():
        return {}
    return {folder.name: read_folder(folder) for folder in sorted(BUNDLED.iterdir()) if folder.is_dir()}


def _manifest_values(manifest: Manifest) -> dict[str, object]:
    """Return the values of `superpos.json` without newer fields that are not used, which older readers refuse."""
    values = manifest.model_dump(mode="json", exclude={"readout"} if manifest.schema_version == 1 else None)
    if manifest.calibration.label_thresholds is None:
        del values["calibration"]["label_thresholds"]
    return values


def _peft_config(adapter: PromptAdapter) -> dict[str, object]:
    return {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_2_SEQ_LM",
        "base_model_name_or_path": adapter.manifest.backbone.id,
        "revision": None,
        "num_virtual_tokens": adapter.num_virtual_tokens,
        "token_dim": adapter.width,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check_names_and_sizes(files: Files) -> None:
    for name, data in files.items():
        if name not in SIZE_LIMITS:
            raise InvalidAdapter("file name", repr(name), f"one of {', '.join(SIZE_LIMITS)}")
        if len(data) > SIZE_LIMITS[name]:
            raise InvalidAdapter(f"size of {name}", f"{len(data)} bytes", f"at most {SIZE_LIMITS[name]} bytes")


def _require(files: Files, *names: str) -> None:
    for name in names:
        if name not in files:
            raise InvalidAdapter("files", ", ".join(sorted(files)) or "none", f"{name} among them")


def _read_json(files: Files, name: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(files[name].decode())
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # raises for 1e999 and a surrogate alone
    except (ValueError, RecursionError) as exc:
        raise InvalidAdapter(name, str(exc)[:200], "a JSON object in UTF-8") from exc
    if not isinstance(value, dict):
        raise InvalidAdapter(name, type(value).__name__, "a JSON object")
    return value


def _read_manifest(files: Files) -> Manifest:
    values = _read_json(files, MANIFEST)
    version = values.get("schema_version", 1)
    if isinstance(version, float):
        raise InvalidAdapter(f"{MANIFEST}: schema_version", version, "an integer")
    if isinstance(version, int) and version > max(_READ_VERSIONS):
        known = ", ".join(map(str, _READ_VERSIONS))
        raise InvalidAdapter(f"{MANIFEST}: schema_version", version, f"{known}; a newer Superpos wrote the adapter")
    readout = values.get("readout", "words")
    needed = schema_version_of(readout)
    if version != needed and version in _READ_VERSIONS:
        raise InvalidAdapter(
            f"{MANIFEST}: schema_version", version, f"{needed}, with the readout {str(readout)[:64]!r}"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise InvalidAdapter(f"{MANIFEST}: {where}", value, message) from exc


def _read_readout(files: Files, manifest: Manifest) -> LearnedReadout | None:
    if manifest.readout == "words":
        if READOUT in files:
            raise InvalidAdapter("files", READOUT, f"none where {MANIFEST} has the readout 'words'")
        return None
    _require(files, READOUT)
    tensors = read_tensors(files[READOUT], READOUT, {VECTORS: ("labels", "width"), BIAS: ("labels",)})
    labels = read_metadata(files[READOUT], READOUT, [_LABELS]).get(_LABELS, "none")
    expected = json.dumps(manifest.task.label_names, ensure_ascii=False)
    if labels != expected:
        raise InvalidAdapter(f"{READOUT}: labels", labels[:200], f"{expected[:200]}, those of {MANIFEST} in its order")
    return LearnedReadout(tensors[VECTORS], tensors[BIAS])


def _read_prompt(files: Files) -> NDArray[np.float32]:
    """Return the prompt [P, H] of the safetensors file, once the PEFT fields are checked."""
    config = _read_json(files, CONFIG)
    for key, expected in (("peft_type", "PROMPT_TUNING"), ("task_type", "SEQ_2_SEQ_LM")):
        # without task_type PEFT loads the folder and ignores the prompt
        if config.get(key) != expected:
            raise InvalidAdapter(f"{CONFIG}: {key}", config.get(key, "nothing"), expected)
    count = config.get("num_virtual_tokens")
    if type(count) is not int or not 1 <= count <= MAX_VIRTUAL_TOKENS:
        raise InvalidAdapter(f"{CONFIG}: num_virtual_tokens", count, f"an integer from 1 to {MAX_VIRTUAL_TOKENS}")
    tensor = read_tensors(files[WEIGHTS], WEIGHTS, {TENSOR: ("virtual tokens", "width")})[TENSOR]
    # PEFT without num_transformer_submodules: 1 stores n rows for the encoder and n that it never uses
    submodules = config.get("num_transformer_submodules", 2)
    if submodules not in (1, 2, None) or isinstance(submodules, bool):
        raise InvalidAdapter(f"{CONFIG}: num_transformer_submodules", submodules, "1 or 2")
    rows = count if submodules == 1 else 2 * count
    if tensor.shape[0] != rows:
        raise InvalidAdapter(f"{WEIGHTS}: rows of {TENSOR}", tensor.shape[0], f"{rows}, as {CONFIG} says")
    tensor = tensor[:count]
    if config.get("token_dim") != tensor.shape[1]:
        raise InvalidAdapter(f"{CONFIG}: token_dim", config.get("token_dim"), f"{tensor.shape[1]}, the tensor's width")
    return tensor
