"""Adapters in folders that a user names: a folder with an adapter, or the folder of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.adapter import PromptAdapter
from adapters.errors import InvalidAdapter
from adapters.files import CONFIG, MANIFEST, from_files, read_folder
from training.config.choices import WITHOUT_ADAPTER
from training.errors import InvalidArguments
from training.runs.layout import ADAPTER, RUN, read_json

if TYPE_CHECKING:
    from backbone import Backbone  # imports torch, which `superpos push` does not need
    from training.config.choices import MethodName
    from training.methods.prior import Source


def adapter_folder(folder: Path) -> Path:
    """Return the folder of the adapter's files.

    Raises:
        InvalidAdapter: the folder is a run without an adapter, holds several runs, or holds neither
    """
    if (inner := folder / ADAPTER).is_dir():
        return inner
    if (folder / RUN).is_file():
        raise InvalidAdapter(str(folder), *_run_without_adapter(folder))
    if folder.is_dir() and not any((folder / name).is_file() for name in (CONFIG, MANIFEST)):
        runs = sorted(str(path.parent) for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RUN}"))
        if runs:
            raise InvalidAdapter(str(folder), f"a folder of {len(runs)} runs", f"one of them, such as {runs[0]}")
        raise InvalidAdapter(
            str(folder), "a folder without an adapter", f"{CONFIG} or {MANIFEST} in it, or a run's folder"
        )
    return folder


def adapter_files(folder: Path) -> dict[str, bytes]:
    """Read the adapter's files.

    Raises:
        InvalidAdapter: as `adapter_folder`, or the folder does not exist
    """
    return read_folder(adapter_folder(folder), beneath=folder)


def read_sources(backbone: "Backbone", folders: Sequence[str], method: "MethodName" = "spot") -> "tuple[Source, ...]":
    """Read the adapters that a method starts from, or its prior.

    Raises:
        InvalidArguments: a folder does not hold what the method starts from, or it was trained for another backbone
    """
    from training.methods.prior import PRIORS, read_prior  # noqa: PLC0415 - imports torch

    if (kind := PRIORS.get(method)) is None:
        return tuple(_read(backbone, Path(folder)) for folder in folders)
    fingerprint, width = backbone.identity.fingerprint, backbone.width
    return tuple(read_prior(Path(folder), fingerprint=fingerprint, width=width, kind=kind) for folder in folders)


def _read(backbone: "Backbone", folder: Path) -> PromptAdapter:
    try:
        adapter = from_files(adapter_files(folder))
        adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    except InvalidAdapter as exc:
        raise InvalidArguments(f"source {folder}: {exc}") from exc
    if not adapter.num_virtual_tokens:
        raise InvalidArguments(f"source {folder} is a head, expected an adapter with a prompt")
    return adapter


def _run_without_adapter(folder: Path) -> tuple[str, str]:
    """Describe what was found and what was expected."""
    try:
        method = read_json(folder / RUN)["arguments"]["method"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"a run whose {RUN} cannot be read", "a run with an adapter"
    if method in WITHOUT_ADAPTER:
        return f"a run of method {method!r}: {WITHOUT_ADAPTER[method]}", "a method that leaves an adapter"
    resume = f"repeat the command that began it with '--out {folder} --resume'"
    return "an unfinished run", f"a finished one; {resume}"
