"""The adapters of other tasks that a method starts from, out of their folders."""

from collections.abc import Sequence
from pathlib import Path

from adapters.adapter import PromptAdapter
from adapters.errors import InvalidAdapter
from adapters.files import from_files
from backbone import Backbone
from training.errors import InvalidArguments
from training.runs.adapter_folder import adapter_files


def read_sources(backbone: Backbone, folders: Sequence[str]) -> tuple[PromptAdapter, ...]:
    """Each folder's adapter; a run's folder is taken for the adapter in it.

    Raises:
        InvalidArguments: a folder holds no adapter, or one that was trained for another backbone
    """
    return tuple(_read(backbone, Path(folder)) for folder in folders)


def _read(backbone: Backbone, folder: Path) -> PromptAdapter:
    try:
        adapter = from_files(adapter_files(folder))
        adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    except InvalidAdapter as exc:
        raise InvalidArguments(f"source {folder}: {exc}") from exc
    return adapter
