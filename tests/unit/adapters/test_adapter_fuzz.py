"""Fuzzed files: whatever they hold, they are an adapter or refused."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import Files, an_adapter

from adapters import Calibration, InvalidAdapter
from adapters.files import CONFIG, MANIFEST, WEIGHTS, from_files, to_files

FUZZED = to_files(an_adapter(calibration=Calibration(temperature=1.5, abstain_threshold=0.25)), card="# A card\n")


def either_an_adapter_or_refused(files: Files) -> None:
    """Anything but an adapter that can be named and written again, or `InvalidAdapter`, fails the test."""
    try:
        adapter = from_files(files)
    except InvalidAdapter:
        return
    assert from_files(to_files(adapter)).digest == adapter.digest


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([CONFIG, WEIGHTS, MANIFEST]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
    st.none() | st.floats(0, 1),
    st.binary(max_size=4),
)
def test_files_with_random_bytes_are_an_adapter_or_refused(
    name: str, edits: list[tuple[float, int]], cut: float | None, tail: bytes
) -> None:
    data = bytearray(FUZZED[name])
    for place, value in edits:
        # most headers and keys stand in front: half of the edits fall there
        span = min(len(data), 256) if value % 2 else len(data)
        data[int(place * span)] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    either_an_adapter_or_refused(FUZZED | {name: bytes(data) + tail})


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(2**53) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([CONFIG, MANIFEST]), st.data())
def test_files_with_any_json_in_any_place_are_an_adapter_or_refused(name: str, data: st.DataObject) -> None:
    root: dict[str | int, Any] = {"root": json.loads(FUZZED[name])}
    path = ("root", *data.draw(st.sampled_from(places(root["root"]))))
    parent: Any = root
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(any_json)
    either_an_adapter_or_refused(FUZZED | {name: json.dumps(root["root"]).encode()})
