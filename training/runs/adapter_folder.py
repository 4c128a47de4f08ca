"""The adapter in a folder that somebody names: the folder's own, or that of the run whose folder it is."""

import json
from pathlib import Path

from adapters.errors import InvalidAdapter
from adapters.files import CONFIG, read_folder
from training.config.choices import WITHOUT_ADAPTER
from training.runs.layout import ADAPTER, RUN


def adapter_folder(folder: Path) -> Path:
    """Where the adapter's files lie.

    Raises:
        InvalidAdapter: a run that leaves no adapter, or has none yet; a folder of several runs; one that holds neither
    """
    if (inner := folder / ADAPTER).is_dir():
        return inner
    if (folder / RUN).is_file():
        raise InvalidAdapter(str(folder), *_run_without_adapter(folder))
    if folder.is_dir() and not (folder / CONFIG).is_file():
        runs = sorted(str(path.parent) for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RUN}"))
        if runs:
            raise InvalidAdapter(str(folder), f"a folder of {len(runs)} runs", f"one of them, as {runs[0]}")
        raise InvalidAdapter(str(folder), "a folder without an adapter", f"{CONFIG} in it, or a run's folder")
    return folder


def adapter_files(folder: Path) -> dict[str, bytes]:
    """The adapter's files; raises as `adapter_folder`, or where there is no such folder."""
    return read_folder(adapter_folder(folder))


def _run_without_adapter(folder: Path) -> tuple[str, str]:
    """What was found, and what was expected."""
    try:
        method = json.loads((folder / RUN).read_text(encoding="utf-8"))["arguments"]["method"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"a run whose {RUN} cannot be read", "a run with an adapter"
    if method in WITHOUT_ADAPTER:
        return f"a run of method {method!r}: {WITHOUT_ADAPTER[method]}", "a method that leaves an adapter"
    return "a run that is not finished", "one that is: go on with it by superpos train --resume"
