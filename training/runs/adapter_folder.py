"""The adapter in a folder that a user names: the folder itself, or the folder of a run."""

import json
from pathlib import Path

from adapters.adapter import PromptAdapter
from adapters.errors import InvalidAdapter
from adapters.files import CARD, CONFIG, read_folder, to_files, write_folder
from training.config.choices import WITHOUT_ADAPTER
from training.runs.card import recalibrated_card
from training.runs.layout import ADAPTER, RUN


def adapter_folder(folder: Path) -> Path:
    """Return the folder of the adapter's files.

    Raises:
        InvalidAdapter: the folder is a run without an adapter, holds several runs, or holds neither
    """
    if (inner := folder / ADAPTER).is_dir():
        return inner
    if (folder / RUN).is_file():
        raise InvalidAdapter(str(folder), *_run_without_adapter(folder))
    if folder.is_dir() and not (folder / CONFIG).is_file():
        runs = sorted(str(path.parent) for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RUN}"))
        if runs:
            raise InvalidAdapter(str(folder), f"a folder of {len(runs)} runs", f"one of them, such as {runs[0]}")
        raise InvalidAdapter(str(folder), "a folder without an adapter", f"{CONFIG} in it, or a run's folder")
    return folder


def adapter_files(folder: Path) -> dict[str, bytes]:
    """Read the adapter's files.

    Raises:
        InvalidAdapter: as `adapter_folder`, or the folder does not exist
    """
    return read_folder(adapter_folder(folder))


def record_adapter(folder: Path, adapter: PromptAdapter) -> Path:
    """Replace the adapter in a folder, and its card's part about calibration; returns the adapter's folder."""
    where = adapter_folder(folder)
    card = read_folder(where).get(CARD, b"").decode()
    write_folder(where, to_files(adapter, card=recalibrated_card(card, adapter)))
    return where


def _run_without_adapter(folder: Path) -> tuple[str, str]:
    """Describe what was found and what was expected."""
    try:
        method = json.loads((folder / RUN).read_text(encoding="utf-8"))["arguments"]["method"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"a run whose {RUN} cannot be read", "a run with an adapter"
    if method in WITHOUT_ADAPTER:
        return f"a run of method {method!r}: {WITHOUT_ADAPTER[method]}", "a method that leaves an adapter"
    return "an unfinished run", "a finished one; resume it with superpos train --resume"
