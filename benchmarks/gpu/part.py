"""One part of the kit: its arguments, its result, and its process.

Each part is a program of its own, since an illegal access to memory takes the device from the whole process.
"""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from backbone import Precision, embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The device under test, and how much is measured on it."""

    device: str
    cache_dir: Path
    quick: bool

    @property
    def precision(self) -> Precision:
        """Precision of the parts that measure one: bf16 on CUDA."""
        return "fp32" if self.device == "cpu" else "bf16"

    @property
    def folder(self) -> Path:
        """Folder of the embedded backbone in `transformers`' format."""
        return embedded.prepare(self.cache_dir, lambda line: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The result of a part."""

    figures: Mapping[str, float]
    """Each name with its unit at the end."""
    detail: Mapping[str, object] = field(default_factory=dict)


class LeftOut(Exception):
    """The part cannot run on this machine; its text says why."""


def run_part(measure: Callable[[Setup], Measured]) -> None:
    """Run a part as the program `python -m benchmarks.gpu.…`; the kit reads its result from the file `--out`."""

    def main(
        out: Annotated[Path, typer.Option(help="File for the result.")],
        cache_dir: Annotated[Path, typer.Option(help="Folder of the embedded backbone's converted weights.")],
        *,
        device: Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:<n>.")] = "cuda",
        quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes.")] = False,
    ) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and engines are stopped
        result: dict[str, object]
        try:
            measured = measure(Setup(device=device, cache_dir=cache_dir, quick=quick))
            result = {"figures": measured.figures, "detail": measured.detail}
        except LeftOut as exc:
            result = {"left_out": str(exc)}
        out.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
