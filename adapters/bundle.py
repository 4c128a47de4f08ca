"""The adapters that come with the package, trained on the embedded backbone: one folder a task in `bundled/`."""

from pathlib import Path

from adapters.files import read_folder

BUNDLED = Path(__file__).parent / "bundled"


def bundled_adapters() -> dict[str, dict[str, bytes]]:
    """The files of each bundled adapter by task name."""
    if not BUNDLED.is_dir():
        return {}
    return {folder.name: read_folder(folder) for folder in sorted(BUNDLED.iterdir()) if folder.is_dir()}
