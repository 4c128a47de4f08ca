"""What the columns of a data set hold: texts, numbers, how many different values, how long they are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from training.rows.grid import number_of


@dataclass(frozen=True, eq=False)
class Column:
    """One column with its cells in the rows' order."""

    name: str
    cells: tuple[object, ...]
    class_names: tuple[str, ...] = ()
    """The names of its integers, where the file has them."""

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value stands in it, as a task file would write the value; empty cells left out."""
        return Counter(str(cell) for cell in self.cells if cell is not None and cell != "")

    @cached_property
    def is_text(self) -> bool:
        """Whether every cell is text or empty, and some is text that is no number."""
        if not all(cell is None or isinstance(cell, str) for cell in self.cells):
            return False
        return bool(self.counts) and not self.is_numeric

    @cached_property
    def is_numeric(self) -> bool:
        """Whether every value is a number, in a CSV file also one that is written as text."""
        return bool(self.counts) and all(number_of(value) is not None for value in self.counts)

    @cached_property
    def numbers(self) -> tuple[Decimal, ...]:
        """Its different numbers, rising; empty where it is not numeric."""
        found = [number_of(value) for value in self.counts] if self.is_numeric else []
        return tuple(sorted({number for number in found if number is not None}))

    @property
    def num_distinct(self) -> int:
        return len(self.counts)

    @property
    def distinct_share(self) -> float:
        """Different values by cells that are not empty."""
        return self.num_distinct / max(1, self.counts.total())

    @cached_property
    def mean_words(self) -> float:
        """Words a cell, over those that are not empty."""
        return sum(len(value.split()) * count for value, count in self.counts.items()) / max(1, self.counts.total())


def columns_of(rows: Iterable[Mapping[str, object]], class_names: Mapping[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """The columns of rows, in the order in which they are first met; a cell that a row lacks is None."""
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    return tuple(
        Column(name, tuple(row.get(name) for row in table), tuple(class_names.get(name, ()))) for name in names
    )
