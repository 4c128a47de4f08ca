"""Data frames of pandas and polars: rows out of them, and outcomes as one. Neither is imported before its use."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar

from superpos_client.answers import Prediction
from superpos_client.errors import SuperposError

FrameT = TypeVar("FrameT")
"""`pandas.DataFrame` or `polars.DataFrame`."""

_COLUMNS = ("label", "score", "abstained", "truncated", "version", "digest")


def rows_of(data: object, text: str | Mapping[str, str]) -> Iterator[Any]:
    """Return the rows of a frame, as texts of one column or as objects of several.

    Raises:
        TypeError: not a data frame
        KeyError: no such column
    """
    library = _library_of(data)
    frame: Any = data
    names = [text] if isinstance(text, str) else list(text.values())
    for name in names:
        if name not in frame.columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, frame.columns))}")
    columns = [frame[name].tolist() if library == "pandas" else frame[name].to_list() for name in names]
    if isinstance(text, str):
        return iter(columns[0])
    fields = list(text)
    return (dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True))


def frame_like(data: FrameT, outcomes: Sequence[Prediction | SuperposError]) -> FrameT:
    """Return the outcomes of a frame's rows as a frame of the same library; in pandas with the same index."""
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for outcome in outcomes:
        for name in _COLUMNS:
            columns[name].append(getattr(outcome, name) if isinstance(outcome, Prediction) else None)
    answered = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    if any(outcome.value is not None for outcome in answered):
        columns["value"] = [getattr(outcome, "value", None) for outcome in outcomes]
    if any(outcome.labels is not None for outcome in answered):
        columns["labels"] = [None if isinstance(each, SuperposError) else list(each.labels or ()) for each in outcomes]
    columns["error"] = [each.reason if isinstance(each, SuperposError) else None for each in outcomes]
    library = _library_of(data)
    module: Any = import_module(library)
    frame: Any = data
    made: FrameT = module.DataFrame(columns, index=frame.index) if library == "pandas" else module.DataFrame(columns)
    return made


def _library_of(data: object) -> Literal["pandas", "polars"]:
    for library in ("pandas", "polars"):
        kind = getattr(sys.modules.get(library), "DataFrame", None)  # a frame's library is imported already
        if kind is not None and isinstance(data, kind):
            return library
    raise TypeError(f"data is {type(data).__name__}, expected a DataFrame of pandas or polars")
