"""Delimited text that is read in blocks."""

import random
from collections.abc import Iterator

import pytest

from training.data.delimited import BadRecord, Record, Source, Table

CELLS = ["a", "", " b ", '"q"', '"two\nlines"', '"a ""b"" c"', '5" pipe', '"open', '"x"y', "é", '"tab\there"']


def in_blocks(text: str, size: int) -> Source:
    def blocks() -> Iterator[str]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    return blocks


def records(table: Table) -> list[Record | BadRecord]:
    return list(table.records())


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("seed", range(12))
def test_a_text_in_blocks_has_the_same_records(separator: str, end: str, seed: int) -> None:
    drawn = random.Random(seed)
    cells = CELLS[: drawn.choice([4, 7, len(CELLS)])]
    lines = [separator.join(("id", "text")), *(separator.join(drawn.choices(cells, k=2)) for _ in range(30)), ""]
    text = end.join(lines + lines[1:3])
    whole = Table(text, separator)
    expected = records(whole)
    assert expected
    for size in (1, 2, 3, 7, 64, 10_000):
        table = Table(in_blocks(text, size), separator)
        assert (table.header, table.is_by_line) == (whole.header, whole.is_by_line)
        assert records(table) == expected
        assert table.num_blank == whole.num_blank
        decided = Table(in_blocks(text, size), separator, by_line=whole.is_by_line)
        assert records(decided) == expected


def test_a_record_has_its_text_as_it_is_written() -> None:
    table = Table('a,b\r\n1,"x ""y""\r\nz"\r\n\r\n2,"c" d\r\n', ",")
    first, second = records(table)
    assert isinstance(first, Record)
    assert (first.line, first.cells, first.text) == (2, ["1", 'x "y"\r\nz'], '1,"x ""y""\r\nz"')
    assert isinstance(second, BadRecord)
    assert (second.where, second.text) == ("line 5, column 6", '2,"c" d')
