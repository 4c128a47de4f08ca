"""The `superpos train` command that repeats a run."""

import re
import shlex

from training.config.arguments import ARGUMENTS, TrainArguments, default_of, option_of, unused_arguments
from training.data.folds import Fold
from training.data.splits import Split

_COMMIT = re.compile(r"[0-9a-f]{40}")
"""The revision of a backbone from the Hub. A backbone from a directory has no revision to name."""


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
    """Return `superpos train` with every option that differs from its default, and the learning rate always."""
    unused = unused_arguments(arguments.method)  # the command rejects them
    options: dict[str, object] = {
        option_of(name): getattr(arguments, name)
        for name in ARGUMENTS
        if name == "lr" or (name not in unused and getattr(arguments, name) != default_of(name, arguments.method))
    }
    options |= {"--split": split} if split != "honest" else {}
    options |= {} if fold is None else {"--folds": fold.of}
    options |= {} if limit is None else {"--limit": limit}
    options |= {} if precision == "fp32" else {"--precision": precision}
    options |= {} if backbone == "embedded" else {"--backbone": backbone}
    options |= {"--revision": revision} if _COMMIT.fullmatch(revision) else {}
    words = ["superpos", "train", task_file]
    for option, value in options.items():
        words += _words(option, value)
    return shlex.join(words)


def _words(option: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [word for item in value for word in (option, str(item))]
    return [option, _number(value) if isinstance(value, float) else str(value)]


def _number(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
