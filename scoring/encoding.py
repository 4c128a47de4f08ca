"""Scored parts as bytes: the rows with their answers, and the lines of those without one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from scoring.files.part import AddedColumn, InputFile, InputRow, Part
from scoring.tasks import AnswerColumn, AnswerOptions, Outcome, Refusal, ScoredTask, all_columns

Answered = tuple[InputRow, list[Outcome]]
"""A row, and what each task answers."""


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """A scored part, as the output has it."""

    number: int
    num_rows: int
    """Rows of the part, those that could not be read included."""
    data: bytes
    rejected: bytes
    """Lines of the side file."""


@dataclass(frozen=True, slots=True)
class PartEncoder:
    """Encodes the answers of a job's tasks."""

    tasks: Sequence[ScoredTask]
    columns: Sequence[Sequence[AnswerColumn]]
    """The columns of each task."""

    @classmethod
    def of(cls, tasks: Sequence[ScoredTask], options: AnswerOptions) -> Self:
        """Make the encoder of a job."""
        return cls(tasks, all_columns(tasks, options))

    @property
    def added(self) -> list[AddedColumn]:
        """The columns of all tasks."""
        return [column.added for columns in self.columns for column in columns]

    def encode(self, file: InputFile[Any], part: Part[Any], answered: Sequence[Answered]) -> EncodedPart:
        """Encode a part of a file.

        Args:
            file: the file
            part: a part of it
            answered: its rows, in order
        """
        values = [
            [_value(column, outcomes[number]) for _, outcomes in answered]
            for number, columns in enumerate(self.columns)
            for column in columns
        ]
        return EncodedPart(
            number=part.number,
            num_rows=len(part.rows) + len(part.unreadable),
            data=file.encode(part, self.added, values),
            rejected=self._rejections(file, part, answered),
        )

    def _rejections(self, file: InputFile[Any], part: Part[Any], answered: Sequence[Answered]) -> bytes:
        """Return the lines of the side file, in the order of the rows."""
        path = str(file.path)
        lines: list[dict[str, object]] = [
            {"file": path, "place": row.place, "reason": row.reason, "row": row.text} for row in part.unreadable
        ]
        for row, outcomes in answered:
            for task, outcome in zip(self.tasks, outcomes, strict=True):
                if isinstance(outcome, Refusal):
                    shown = {"task": task.ref, "reason": outcome.reason, "row": dict(row.values)}
                    lines.append({"file": path, "place": row.place, **shown})
        lines.sort(key=lambda line: _number(str(line["place"])))
        return "".join(json.dumps(line, default=str) + "\n" for line in lines).encode()


def _value(column: AnswerColumn, outcome: Outcome) -> object:
    return None if isinstance(outcome, Refusal) else column.value(outcome)


def _number(place: str) -> int:
    """Return the number in `line 7, column 3` or `row 7`."""
    return int(place.split()[1].rstrip(","))
