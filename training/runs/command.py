"""The command that makes a run again."""

import re
import shlex
from dataclasses import Field, fields

from training.config.arguments import DEFAULT_WEIGHT_DECAY, TrainArguments
from training.config.choices import unused_arguments
from training.data.folds import Fold
from training.data.splits import Split

_COMMIT = re.compile(r"[0-9a-f]{40}")
"""What a backbone of the Hub has as its revision; one of a directory has none to ask for."""


def train_command(
    arguments: TrainArguments,
    *,
    split: Split,
    fold: Fold | None = None,
    limit: int | None,
    precision: str = "fp32",
    backbone: str,
    revision: str,
    task_file: str = "task.yaml",
) -> str:
    """`superpos train` with every option that differs from its default; the rate is always named."""
    unused = unused_arguments(arguments.method)  # the command refuses them
    options: dict[str, object] = {
        field.name: getattr(arguments, field.name)
        for field in fields(TrainArguments)
        if field.name == "lr"
        or (field.name not in unused and getattr(arguments, field.name) != _default(field, arguments))
    }
    options |= {"split": split} if split != "honest" else {}
    options |= {} if fold is None else {"folds": fold.of}
    options |= {} if limit is None else {"limit": limit}
    options |= {} if precision == "fp32" else {"precision": precision}
    options |= {} if backbone == "embedded" else {"backbone": backbone}
    options |= {"revision": revision} if _COMMIT.fullmatch(revision) else {}
    words = ["superpos", "train", task_file]
    for name, value in options.items():
        words += _option(name, value)
    return shlex.join(words)


def _default(field: "Field[object]", arguments: TrainArguments) -> object:
    """What the command takes where an option is left out."""
    if field.name == "weight_decay":
        return DEFAULT_WEIGHT_DECAY.get(arguments.method, field.default)
    return field.default


def _option(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [word for item in value for word in (flag, str(item))]
    return [flag, _number(value) if isinstance(value, float) else str(value)]


def _number(value: float) -> str:
    """As short as it can be and still the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
