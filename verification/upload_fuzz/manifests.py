"""Mutations of an adapter's JSON files: of their bytes, of any value, and of the task that they describe."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from adapters.files import CARD, CONFIG, MANIFEST, SIZE_LIMITS
from verification.upload_fuzz.weights import FileMutation, Files

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    -1e-320,
    2**31,
    2**53,
    2**64,
    -(10**30),
    10**4_000,
    "",
    " ",
    "\0",
    "\ud800",
    "a\u202eb",
    "ﬁ",
    "x" * 300,
    "x" * 200_000,
    "{a.b}",
    "%s%n",
    [],
    [[]],
    [None],
    {},
    {"": ""},
    {"a": {"a": {"a": []}}},
    list(range(5_000)),
    {str(number): number for number in range(300)},
    "sha256:" + "0" * 64,
)
"""Values to put in the place of another value."""
SMALL = tuple(value for value in ODD if len(json.dumps(value)) < 400)
"""Values that may be repeated a thousand times."""

TEMPLATES = (
    "",
    " ",
    "{",
    "}",
    "{}",
    "{0}",
    "{a",
    "a}",
    "{{a}}",
    "{a.b}",
    "{a[0]}",
    "{a!r}",
    "{a:>99999999}",
    "{a.__class__.__mro__}",
    "{ä}",
    "{a b}",
    "{" + "a" * 64 + "}",
    "{" + "a" * 65 + "}",
    "{a}" * 16,
    "{a}" * 17,
    "{a}{b}{c}",
    "\0{a}",
    "\ud800{a}",
    "\u202e{a}\u200b",
    "x" * 3_997 + "{a}",
    "x" * 3_998 + "{a}",
    "{" * 4_000,
    "{a" * 1_300,
    "{a}" + "x" * 900_000,
    "${a}%(a)s{a}",
    "sentence: {sentence}",
)

Edit = Callable[[Random, dict[str, Any]], object]


def edited(name: str, edit: Edit) -> FileMutation:
    """Mutate a JSON file's value; a file without a value after earlier mutations is unchanged."""

    def mutate(draw: Random, files: Files) -> None:
        try:
            value = json.loads(files[name])
            edit(draw, value)
            files[name] = json.dumps(value, indent=draw.choice((None, 2)), ensure_ascii=True).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return

    mutate.__name__ = f"{edit.__name__} of {name}"
    return mutate


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value inside a JSON value; of long lists only the first item's."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))]


def _parent(root: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        root = root[key]
    return root


def set_anywhere(draw: Random, root: dict[str, Any]) -> None:
    path = draw.choice(_places(root)[1:])
    _parent(root, path)[path[-1]] = draw.choice(ODD)


def delete_anywhere(draw: Random, root: dict[str, Any]) -> None:
    path = draw.choice(_places(root)[1:])
    del _parent(root, path)[path[-1]]


def add_anywhere(draw: Random, root: dict[str, Any]) -> None:
    path = draw.choice(_places(root))
    parent = _parent(root, (*path, ""))
    if isinstance(parent, dict):
        parent[draw.choice(("surprise", "", "__proto__", "\ud800", "x" * 5_000, "schema_version"))] = draw.choice(ODD)
    elif isinstance(parent, list):
        parent.extend([draw.choice(SMALL)] * draw.choice((1, 2_000)))


def swap_anywhere(draw: Random, root: dict[str, Any]) -> None:
    one, other = (draw.choice(_places(root)[1:]) for _ in range(2))
    first, second = _parent(root, one)[one[-1]], _parent(root, other)[other[-1]]
    _parent(root, one)[one[-1]] = json.loads(json.dumps(second))
    _parent(root, other)[other[-1]] = json.loads(json.dumps(first))


def change_template(draw: Random, root: dict[str, Any]) -> None:
    root["task"]["template"] = draw.choice(TEMPLATES)


def change_labels(draw: Random, root: dict[str, Any]) -> None:
    root["task"]["labels"] = draw.choice((_counted, _long, _similar, _exotic))(draw)


def _labels(words: list[str]) -> list[dict[str, str]]:
    return [{"name": f"label {number}", "words": text} for number, text in enumerate(words)]


def _counted(draw: Random) -> object:
    """Set a number of labels near the limits of labels and of trie nodes, as a list or a mapping."""
    count = draw.choice((0, 1, 2, 21, 150, 999, 1_000, 1_001, 20_000))
    words = [f"{number:b}" if draw.random() < 0.5 else f"word {number}" for number in range(count)]
    return draw.choice((_labels(words), {text: text for text in words}))


def _long(draw: Random) -> object:
    """Set labels with too many tokens, or with too many trie nodes together."""
    alphabet = "abcdefghijklmnop"
    count, length = draw.choice(
        ((1_000, 32), (128, 32), (140, 28), (1_000, 5), (2, 16), (2, 31), (2, 32), (2, 33), (2, 250))
    )
    return _labels([" ".join(draw.choice(alphabet) for _ in range(length)) for _ in range(count)])


def _similar(draw: Random) -> object:
    """Set labels that are prefixes of each other, or that have the same tokens."""
    chains = (
        [" ".join(["a"] * length) for length in range(1, draw.choice((3, 20, 33)))],
        ["yes", " yes"],
        ["yes", "yes "],
        ["yes", "yes", "no"],
        ["ﬁne", "fine"],
        ["a  b", "a b"],
        ["\u00e9", "e\u0301"],
        ["Yes", "yes", "YES"],
    )
    return _labels(draw.choice(chains))


def _exotic(draw: Random) -> object:
    words = (
        "🙂",
        "👨‍👩‍👧",
        "שלום",
        "\u200b",
        "\u00a0",
        "</s>",
        "<pad>",
        "<unk>",
        "<extra_id_0>",
        "▁",
        "日本",
        "\ufeff",
        "\ud83d",
        "x" * 512,
        "x" * 513,
        "\n",
    )
    chosen = draw.sample(words, 2)
    labels = _labels(chosen)
    labels[0]["name"] = draw.choice(("", "n" * 128, "n" * 129, "\t", "label 1", "../x", chosen[0]))
    return labels


def change_task(draw: Random, root: dict[str, Any]) -> None:
    changes: tuple[tuple[str, object], ...] = (
        ("max_tokens", draw.choice((0, 1, 2, 3, 4_096, 4_097, 2**40, 64.0, "64"))),
        ("truncation_side", draw.choice(("start", "both", None))),
        ("kind", draw.choice(("ordinal", "multi_label"))),
        ("labels", [{"name": str(n / 2), "words": f"{n / 2}"} for n in range(draw.choice((1, 3, 11, 300)))]),
        ("labels", [{"name": n, "words": n} for n in draw.sample(("1", "2", "nan", "inf", "1_0", "٣", "1e400"), 3)]),
    )
    for name, value in draw.sample(changes, draw.randint(1, 3)):
        root["task"][name] = value


_THRESHOLDS: tuple[dict[str, object], ...] = (
    {"abstain_threshold": 0},
    {"label_thresholds": [0.5, 0.5]},
    {"abstain_threshold": 0.5},
    {"abstain_threshold": -0.1},
    {"label_thresholds": [1.1] * 9_000},
)


def change_the_rest(draw: Random, root: dict[str, Any]) -> None:
    """Mutate calibration, provenance, validation profile or the backbone's name, near and beyond their limits."""
    counts = [draw.choice((0, 1, 5, -1, 2**53, 1.0)) for _ in range(draw.choice((2, 10)))]
    many = {f"m{number}": 0.5 for number in range(draw.choice((1, 256, 257, 9_000)))}
    changes: tuple[tuple[str, object], ...] = (
        ("calibration", {"temperature": draw.choice((0.01, 100, 0.009, 101, 1e-300, "1"))}),
        ("calibration", draw.choice(_THRESHOLDS)),
        ("provenance", {"method": "x" * draw.choice((0, 64, 65)), "metrics": many}),
        ("provenance", {"method": "m", "sampled_token_ids": [draw.choice((1, 2**53, "1", None))] * 3_000}),
        ("provenance", {"method": "m", "hyperparameters": dict.fromkeys(many, draw.choice(SMALL))}),
        ("validation", {"label_counts": counts[:2], "confidence_counts": counts, "rows": sum(map(int, counts[:2]))}),
        ("validation", {"label_counts": [4, 6], "confidence_counts": [1] * 10, "rows": 10}),
        ("backbone", root["backbone"] | {"fingerprint": "sha256:" + f"{draw.getrandbits(256):064x}"}),
        ("backbone", root["backbone"] | {"id": "x" * draw.choice((1, 256, 257))}),
        ("schema_version", draw.choice((0, 2, "1", 1.0, True))),
    )
    for name, value in draw.sample(changes, draw.randint(1, 2)):
        root[name] = value


def spoil_the_text(draw: Random, files: Files) -> None:
    """Mutate the bytes of a JSON file, as text or as binary."""
    name = draw.choice((CONFIG, MANIFEST))
    data = files[name]
    place = draw.randrange(len(data) + 1)
    texts = (
        data[:place],
        data[:place] + draw.randbytes(draw.randint(1, 4)) + data[place:],
        data[:place] + bytes([data[place - 1] ^ 1 << draw.randrange(8)]) + data[place + 1 :] if data else data,
        data[:place] + b"\0" + data[place:],
        b"\xef\xbb\xbf" + data,
        data.decode(errors="replace").encode(draw.choice(("utf-16", "utf-32", "utf-7", "utf-16-le"))),
        data.replace(b'"', b"'"),
        data.rstrip()[:-1] + b",}",
        data + data,
        b"// comment\n" + data,
        data.replace(b"null", draw.choice((b"NaN", b"-Infinity", b"1e400", b"1" * 5_000, b"0x10", b"01"))),
        data.rstrip()[:-1] + b"," + data.lstrip()[1:],
        data.replace(b"{", b'{"schema_version": ' + b"[" * draw.choice((90, 200, 30_000)), 1),
        b"[" * draw.choice((1, 129, 60_000)),
        b"",
        b"null",
        b"\xff" * 100,
        draw.randbytes(300),
    )
    files[name] = draw.choice(texts)


def near_its_size_limit(draw: Random, files: Files) -> None:
    name = draw.choice((CONFIG, MANIFEST, CARD))
    data = files.get(name, b"# A card\n")
    files[name] = data + b" " * max(SIZE_LIMITS[name] - len(data) + draw.choice((-1, 0, 1, 5_000)), 0)


def change_the_set(draw: Random, files: Files) -> None:
    """Remove a file, or add one that does not belong; the card may be anything."""
    name = draw.choice(sorted(files))
    data = files.pop(name)
    kept = draw.choice((None, name, "adapter_model.bin", "evil.py", name.upper(), f"../{name}", f"{name}.gz"))
    if kept is not None:
        files[kept] = data
    if draw.random() < 0.5:
        files[CARD] = draw.choice((b"", b"\xff\xfe", b"<script>alert(1)</script>", "🙂".encode() * 900, bytes(3_000)))


JSON_MUTATIONS: tuple[FileMutation, ...] = (
    *(edited(name, edit) for name in (CONFIG, MANIFEST) for edit in (set_anywhere, delete_anywhere, add_anywhere)),
    edited(MANIFEST, set_anywhere),
    edited(MANIFEST, swap_anywhere),
    spoil_the_text,
    spoil_the_text,
    near_its_size_limit,
    change_the_set,
)
TASK_MUTATIONS: tuple[FileMutation, ...] = tuple(
    edited(MANIFEST, edit) for edit in (change_template, change_labels, change_labels, change_task, change_the_rest)
)
