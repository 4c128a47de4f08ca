"""The input files that files, folders and globs name, and a name for the output of each."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoring.errors import InvalidInput
from scoring.outputs import Output
from training.data.formats import SUFFIXES

_GLOB = "*?["


def is_input(argument: str) -> bool:
    """Whether an argument looks like a file, a folder or a glob."""
    return "/" in argument or any(each in argument for each in _GLOB) or argument.lower().endswith(SUFFIXES)


def find_inputs(inputs: Sequence[str], output: Output) -> dict[str, Path]:
    """Return the input files by the names of their outputs, in the order of the arguments.

    Folders are searched at any depth, without names that begin with `.` or `_`.

    Raises:
        InvalidInput: nothing is found, or two outputs would have the same name
    """
    found: dict[str, Path] = {}
    here = output.path.resolve()
    for argument in inputs:
        files = [
            (name, path)
            for name, path in _found(argument)
            if not (output.is_folder and path.resolve().is_relative_to(here))
        ]
        if not files:
            raise InvalidInput(f"{argument}: no file that ends with {', '.join(SUFFIXES)}")
        for name, path in files:
            if name in found and found[name].resolve() != path.resolve():
                raise InvalidInput(f"{found[name]} and {path} would both be written to {output.file(name)}")
            if path.resolve() == output.file(name).resolve():
                raise InvalidInput(f"--out {output.path} would overwrite the input {path}")
            found[name] = path
    return found


def _found(argument: str) -> Iterator[tuple[str, Path]]:
    path = Path(argument)
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        yield from _in_folder(path)
    elif any(each in argument for each in _GLOB):
        fixed = Path(*_fixed_parts(path))
        for each in sorted(map(Path, glob.glob(argument, recursive=True))):  # noqa: PTH207 - of any folder
            if each.is_file() and each.suffix.lower() in SUFFIXES:
                yield each.relative_to(fixed).as_posix(), each
    else:
        raise InvalidInput(f"{argument}: no such file or folder")


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(part[0] in "._" for part in name.parts):
            yield name.as_posix(), path


def _fixed_parts(path: Path) -> Iterator[str]:
    """Yield the parts of a glob before the first one with a wildcard."""
    for part in path.parts[:-1]:
        if any(each in part for each in _GLOB):
            return
        yield part
