"""Tables 1, 2 and 3 of the paper (Sadraei et al. 2024) as data, cell by cell as printed."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

PAPER_TASKS = (
    *("qqp", "qnli", "mnli", "sst2", "stsb", "mrpc", "cola"),
    *("multirc", "rte", "cb", "copa", "wic", "boolq"),
)
"""In the columns' order: seven of GLUE, six of SuperGLUE."""
SMALL, BASE = "google/t5-small-lm-adapt", "google/t5-base-lm-adapt"
"""The backbones of Table 1, under their names on the Hub."""

_INVALID = "†"
_MISSING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCell:
    """A task's figures in points (shares × 100), in the order of the table's head; None where none was reported."""

    values: tuple[float | None, ...]
    invalid: bool
    """Printed with †: the model did not always answer with a label, and the score is zero."""
    printed: str

    @property
    def score(self) -> float | None:
        """The mean of the task's metrics, in points; None unless all of them were reported."""
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One line of Table 1 or 3."""

    backbone: str
    method: str
    dropout: bool | None
    """Dropout of the frozen network during training; None for GPT-3.5, which was not trained."""
    softmax: bool
    prompts: int | None
    """Virtual tokens; None for full fine-tuning and GPT-3.5."""
    source: str
    """`measured`, or whose paper the row was taken from."""
    cells: dict[str, PublishedCell]
    """By task, all 13."""
    average: float | None
    """As printed, in points."""

    @property
    def title(self) -> str:
        """The method, with what else distinguishes rows of a backbone."""
        softmax = ", softmax" if self.softmax and self.method == "superpos" else ""
        return self.method + softmax + (f", {self.prompts} virtual tokens" if self.prompts not in (None, 10) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedOverall:
    """One entry of Table 2: mean and population standard deviation of the standardised scores over the tasks."""

    backbone: str
    method: str
    dropout: bool
    mean: float
    std: float


def table1() -> tuple[PublishedRow, ...]:
    """GLUE and SuperGLUE, 10 virtual tokens, 80 epochs: nine rows for each of two backbones."""
    return tuple(_row(line) for line in _lines("table1"))


def table2() -> tuple[PublishedOverall, ...]:
    """The standardised overall scores, ATTEMPT left out."""
    return tuple(
        PublishedOverall(
            backbone=line["backbone"],
            method=line["method"],
            dropout=line["dropout"] == "on",
            mean=float(line["mean"]),
            std=float(line["std"]),
        )
        for line in _lines("table2")
    )


def table3() -> tuple[PublishedRow, ...]:
    """The original T5 checkpoint, the softmax ablation, and GPT-3.5 with one example of each label."""
    return tuple(_row(line) for line in _lines("table3"))


def published_rows(grid: str, backbone: str) -> tuple[PublishedRow, ...]:
    """Return what the paper printed, to be read next to the lines of a grid; empty unless it is `table1` or `table3`.

    Table 1 has a part for each of two backbones: of those, the one's own part, or both parts for another backbone.
    Table 3 compares backbones, and is returned as a whole.
    """
    if grid == "table3":
        return table3()
    own = tuple(row for row in table1() if row.backbone == backbone)
    return (own or table1()) if grid == "table1" else ()


def _lines(table: Literal["table1", "table2", "table3"]) -> Iterator[dict[str, str]]:
    text = files("training.paper").joinpath(f"{table}.csv").read_text(encoding="utf-8")
    return iter(csv.DictReader(text.splitlines(), strict=True))


def _row(line: dict[str, str]) -> PublishedRow:
    prompts = line.get("prompts", _MISSING if line["method"] == "full" else "10")
    return PublishedRow(
        backbone=line["backbone"],
        method=line["method"],
        dropout=None if line["dropout"] == _MISSING else line["dropout"] == "on",
        softmax=line.get("softmax", "on" if line["method"] == "attempt" else "off") == "on",
        prompts=None if prompts == _MISSING else int(prompts),
        source=line.get("source", "measured"),
        cells={task: _cell(line[task]) for task in PAPER_TASKS},
        average=_number(line["avg"]),
    )


def _cell(printed: str) -> PublishedCell:
    figures = printed.removesuffix(_INVALID)
    return PublishedCell(
        values=tuple(_number(figure) for figure in figures.split("/")),
        invalid=printed.endswith(_INVALID),
        printed=printed,
    )


def _number(printed: str) -> float | None:
    return None if printed == _MISSING else float(printed)
