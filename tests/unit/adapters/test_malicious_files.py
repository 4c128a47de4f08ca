"""Files made to do harm: nothing is unpickled, no parser or digest breaks, and a refusal costs little."""

import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import Change, Files, an_adapter, config, edited, manifest, nested

from adapters import Calibration, InvalidAdapter
from adapters.files import CARD, CONFIG, MANIFEST, WEIGHTS, from_files, to_files


class Canary:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, CARD])
def test_nothing_is_ever_unpickled(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "unpickled"
    data = pickle.dumps(Canary(canary))
    pickle.loads(data)
    assert canary.exists(), "the canary does not sing"
    canary.unlink()
    try:
        from_files(to_files(an_adapter(), card="# A card\n") | {name: data})
    except InvalidAdapter:
        assert name != CARD
    assert not canary.exists()


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.slow
def test_json_nested_near_a_parsers_limit_is_refused_like_any_other(name: str, opening: str, closing: str) -> None:
    files = to_files(an_adapter())
    for depth in (*range(150, 250, 5), *range(900, 1_000, 5)):
        with pytest.raises(InvalidAdapter):
            from_files(files | {name: nested(depth, opening, closing)})


UNSAFE_INTEGER = 2**53
"""The first integer that canonical JSON (RFC 8785) cannot hold."""


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(manifest("provenance", "seed", value=UNSAFE_INTEGER), id="seed"),
        pytest.param(manifest("provenance", "seed", value=-(10**30)), id="negative seed"),
        pytest.param(manifest("provenance", "sampled_token_ids", value=[UNSAFE_INTEGER]), id="sampled token ids"),
        pytest.param(manifest("provenance", "hyperparameters", value={"steps": UNSAFE_INTEGER}), id="hyperparameters"),
        pytest.param(manifest("provenance", "data", value={"rows": UNSAFE_INTEGER}), id="data"),
        pytest.param(manifest("provenance", "hyperparameters", value={"note": "\ud800"}), id="surrogate in a value"),
        pytest.param(manifest("provenance", "hyperparameters", value={"\ud800": 1}), id="surrogate in a key"),
        pytest.param(manifest("provenance", "data", value={"file": "\udfff"}), id="surrogate in the data"),
        pytest.param(manifest("provenance", "software", value={"torch": "\udfff"}), id="surrogate in the software"),
        pytest.param(manifest("provenance", "method", value="\ud800"), id="surrogate in the method"),
        pytest.param(manifest("backbone", "id", value="\ud800"), id="surrogate in the backbone"),
        pytest.param(manifest("task", "template", value="\ud800 {sentence}"), id="surrogate in the template"),
        pytest.param(manifest("task", "labels", value={"\ud800": "x", "b": "y"}), id="surrogate in a label"),
    ],
)
def test_what_has_no_canonical_form_is_refused_before_it_needs_a_digest(change: Change) -> None:
    with pytest.raises(InvalidAdapter):
        from_files(change(to_files(an_adapter())))


def test_a_refusal_can_be_sent_as_utf8_whatever_was_in_the_files() -> None:
    files = to_files(an_adapter())
    for change in (config(peft_type="\ud800"), manifest("\ud800", value=1), config(token_dim="\udfff")):
        with pytest.raises(InvalidAdapter) as caught:
            from_files(change(files))
        str(caught.value).encode()


MANY = [f"{number:x}" for number in range(60_000)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda files: (
                files
                | {
                    MANIFEST: files[MANIFEST].replace(
                        b'"sampled_token_ids": []', b'"sampled_token_ids": [%s1]' % (b"[]," * 150_000)
                    )
                }
            ),
            id="sampled token ids",
        ),
        pytest.param(
            lambda files: files | {MANIFEST: b'{"task": {"template": "{a}", "labels": [' + b"0," * 150_000 + b"0]}}"},
            id="labels",
        ),
        pytest.param(manifest("provenance", "hyperparameters", value={key: [] for key in MANY}), id="hyperparameters"),
        pytest.param(manifest("provenance", "metrics", value=dict.fromkeys(MANY, "x")), id="metrics"),
        pytest.param(
            lambda files: edited(files, MANIFEST, lambda root: root.update(dict.fromkeys(MANY, 1))), id="keys"
        ),
    ],
)
@pytest.mark.slow
def test_a_manifest_with_an_error_in_every_item_costs_little_memory(change: Change) -> None:
    files = change(to_files(an_adapter()))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidAdapter):
            from_files(files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


FUZZED = to_files(an_adapter(calibration=Calibration(temperature=1.5, abstain_threshold=0.25)), card="# A card\n")


def either_an_adapter_or_refused(files: Files) -> None:
    """Anything but an adapter that can be named and written again, or `InvalidAdapter`, fails the test."""
    try:
        adapter = from_files(files)
    except InvalidAdapter:
        return
    assert from_files(to_files(adapter)).digest == adapter.digest


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


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([CONFIG, MANIFEST]), st.data())
@pytest.mark.slow
def test_files_with_any_json_in_any_place_are_an_adapter_or_refused(name: str, data: st.DataObject) -> None:
    root: dict[str | int, Any] = {"root": json.loads(FUZZED[name])}
    path = ("root", *data.draw(st.sampled_from(places(root["root"]))))
    parent: Any = root
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(any_json)
    either_an_adapter_or_refused(FUZZED | {name: json.dumps(root["root"]).encode()})
