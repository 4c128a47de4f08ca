"""Options that the accuracy grids share, what they load by them, and what they write."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from adapters.atomic_files import atomic_write
from backbone import Backbone, load
from benchmarks.training.cells import SETS
from cli.console import err, out
from service.settings import default_cache_dir
from training.report.svg import png, svg
from training.task.task_file import TaskFile, load_task_file

SetsOption = Annotated[str, typer.Option("--sets", help="Task files of examples/tasks by name, with commas.")]
SeedsOption = Annotated[str, typer.Option(help="Seeds, with commas.")]
OnlyOption = Annotated[
    str | None, typer.Option(help="Lines by name, with commas: superpos/soft, none/pooled, tfidf … (default: all)")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of training rows, of grids over all rows.")
]
SelectionOption = Annotated[
    int | None, typer.Option("--max-selection", min=1, help="Maximum number of selection rows.")
]
ReportOption = Annotated[int | None, typer.Option("--max-report", min=1, help="Maximum number of report rows.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Training argument of all prompts, such as epochs=4; repeatable."),
]
PrecisionOption = Annotated[str, typer.Option(help="Precision of the frozen network in training: fp32 or bf16.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Processor threads. (default: PyTorch's)")]
BackboneOption = Annotated[str, typer.Option(help="embedded, a folder, or a model of the Hub.")]
ALL_SETS = ",".join(SETS)


def load_tasks(names: str) -> dict[str, TaskFile]:
    """Read task files by name; rows are found by SUPERPOS_DATA."""
    return {
        name: load_task_file(Path(f"examples/tasks/{name}.yaml"), variables=os.environ) for name in names.split(",")
    }


def load_model(source: str, threads: int | None) -> Backbone:
    """Load the backbone in float32."""
    import torch  # noqa: PLC0415 - for --help, which needs none of it

    if threads is not None:
        torch.set_num_threads(threads)
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or default_cache_dir())
    return load(source, cache_dir=cache_dir, say=err.print)


def write_section(text: str, path: Path | None) -> None:
    """Write a section in Markdown; print it if there is no path."""
    if path is None:
        out.print(text)
    else:
        atomic_write({path: text.encode()})


def write_plot(figure: Figure, path: Path) -> None:
    """Write a plot as SVG and PNG, at a path without an ending."""
    atomic_write({path.with_suffix(".svg"): svg(figure).encode(), path.with_suffix(".png"): png(figure)})


def parse_arguments(given: Sequence[str] | None) -> tuple[tuple[str, Any], ...]:
    """Parse `NAME=VALUE` pairs into training arguments, sorted by name.

    Raises:
        typer.BadParameter: an unknown name, or no value
    """
    from training.config.arguments import TYPES  # noqa: PLC0415 - as above

    values: Mapping[str, Any] = dict(map(_pair, given or ()))
    if unknown := sorted(values.keys() - TYPES.keys()):
        raise typer.BadParameter(f"unknown training argument {unknown[0]!r}, expected one of {', '.join(TYPES)}")
    return tuple(sorted(values.items()))


def _pair(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r}, expected NAME=VALUE, such as epochs=4")
    return name.strip().replace("-", "_"), _value(value.strip())


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
