"""Settings of a run except seed and fold, by name: runs that differ in any are not averaged."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from training.config.arguments import unused_arguments
from training.report.reading import RunRecord
from training.runs.identity import identity_fields

_SEED = "seed"
_OF_A_TASK = frozenset({"rows", "task file"})
"""Settings that two tasks cannot have alike: they tell apart only runs of one."""
_PLAIN = frozenset({"method", "split", "precision", "backbone"})
"""Settings whose values say what they are."""
_SYMBOLS = {"num_sampled_tokens": "m", "num_virtual_tokens": "P"}
_SHORT = 8
"""Hex digits that are shown of a sum."""

Settings = Mapping[str, object]


def varying_parts(records: Sequence[RunRecord]) -> list[list[str]]:
    """For each run, in words, the settings in which these runs differ."""
    names: dict[str, str] = {}
    for record in records:  # one model may have been loaded from two places
        backbone = record.run.get("backbone", {})
        names.setdefault(str(backbone.get("fingerprint")), str(backbone.get("id")))
    settings = [_settings(record, names) for record in records]
    tasks = [record.task.name for record in records]
    varying = [
        name for name in dict.fromkeys(name for own in settings for name in own) if _varies(name, settings, tasks)
    ]
    return [[_part(name, own[name]) for name in varying if name in own] for own in settings]


def _settings(record: RunRecord, backbones: Mapping[str, str]) -> Settings:
    """A run's, those of its arguments first; arguments that its method does not use are left out.

    Args:
        backbones: names by fingerprint
    """
    run, data = record.run, record.run.get("data", {})
    fingerprint = str(run.get("backbone", {}).get("fingerprint"))
    method, readout = record.arguments.get("method", "superpos"), record.arguments.get("readout", "words")
    unused = unused_arguments(method, readout) | {_SEED}
    return (
        {name: record.arguments[name] for name in sorted(record.arguments) if name not in unused}
        | {
            "split": f"{data['folds']} folds" if "folds" in data else str(run.get("split")),
            "limit": run.get("limit") or "none",
            "precision": run.get("precision", "fp32"),  # the only one before runs recorded it
            "backbone": f"{backbones[fingerprint]} {fingerprint.removeprefix('sha256:')[:_SHORT]}",
            "rows": _sum([data.get("train_sha256"), data.get("validation_sha256")]),
            "task file": _sum(identity_fields(record.task.model_dump(mode="json"))),
        }
    )


def _varies(name: str, settings: Sequence[Settings], tasks: Sequence[str]) -> bool:
    """Whether runs that have a setting differ in it; of one task, for settings that tasks cannot have alike."""
    scopes = tasks if name in _OF_A_TASK else [""] * len(tasks)
    found = {(scope, str(own[name])) for scope, own in zip(scopes, settings, strict=True) if name in own}
    return len(found) > len({scope for scope, _ in found})


def _sum(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_SHORT]


def _part(name: str, value: object) -> str:
    if name in _PLAIN:
        return str(value)
    words = _SYMBOLS.get(name, name.replace("_", " "))
    match value:
        case bool():
            return words if value else f"no {words}"
        case float():
            return f"{words} {value:g}"
        case _:
            return f"{words} {value}".replace("_", " ")
