"""The predictions of a run's best prompt on the report rows, as a Parquet file for the report and other tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from adapters.baselines import BASELINES, BaselineName
from adapters.regular_files import open_regular
from training.data.examples import Example
from training.errors import InvalidData
from training.scoring.decisions import Labels, indicators

_BASELINE = "baseline_"
"""Prefix of the columns with the answers of baselines."""
_FIELDS = pyarrow.map_(pyarrow.string(), pyarrow.string())


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """n rows with their predictions."""

    texts: tuple[str, ...]
    """The rendered inputs of the model."""
    fields: tuple[dict[str, str], ...]
    """The texts of the template's fields."""
    groups: tuple[str, ...] | None
    """The group of each row; None if the task has no groups."""
    label_names: tuple[str, ...]
    """In the order of the task and of the columns of `log_probs`."""
    labels: Labels
    log_probs: NDArray[np.float32]  # [n, K], before calibration
    decisions: Labels | None = None  # [n, K], the answers in a multi-label task

    @property
    def is_multi_label(self) -> bool:
        return self.decisions is not None

    @property
    def predicted(self) -> Labels:
        """The most likely label of each row, [n]; in a multi-label task, which labels each row got, [n, K]."""
        return self.log_probs.argmax(axis=1) if self.decisions is None else self.decisions

    def __len__(self) -> int:
        return len(self.texts)


def predictions_table(
    examples: Sequence[Example],
    label_names: Sequence[str],
    log_probs: NDArray[np.float32],  # [n, K]
    *,
    decisions: Labels | None = None,  # [n, K]
    baselines: Mapping[BaselineName, Labels] = MappingProxyType({}),
) -> pyarrow.Table:
    """Build a table: index, text, fields, group, label, predicted, log_probs (a list in the order of the labels).

    The answers of a baseline are in a column such as `baseline_tfidf`. In a multi-label task, whose decisions are
    given, all answers are lists of names.
    """
    names = np.array(label_names, dtype=object)
    if decisions is None:
        kind: pyarrow.DataType = pyarrow.string()
        right: list[object] = names[[example.label for example in examples]].tolist()
        given: list[object] = names[log_probs.argmax(axis=1)].tolist()
        of_baselines: dict[str, list[object]] = {name: names[answers].tolist() for name, answers in baselines.items()}
    else:
        kind = pyarrow.list_(pyarrow.string())
        right = [names[list(example.labels)].tolist() for example in examples]
        given = [names[row == 1].tolist() for row in decisions]
        of_baselines = {name: [names[row == 1].tolist() for row in answers] for name, answers in baselines.items()}
    columns = {
        "index": pyarrow.array(range(len(examples)), pyarrow.int64()),
        "text": pyarrow.array([example.text for example in examples], pyarrow.string()),
        "fields": pyarrow.array([list(example.fields.items()) for example in examples], _FIELDS),
        "group": pyarrow.array([example.group for example in examples], pyarrow.string()),
        "label": pyarrow.array(right, kind),
        "predicted": pyarrow.array(given, kind),
        "log_probs": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(log_probs.ravel()), log_probs.shape[1]),
    }
    columns |= {f"{_BASELINE}{name}": pyarrow.array(answers, kind) for name, answers in of_baselines.items()}
    return pyarrow.table(columns)


def read_predictions(path: Path, label_names: Sequence[str]) -> Predictions:
    """Read a table written by `predictions_table` from a Parquet file.

    Raises:
        InvalidData: the file cannot be read, or its columns or labels differ
    """
    try:
        with open_regular(path) as file:
            columns = ["text", "fields", "group", "label", "predicted", "log_probs"]
            rows = pyarrow.parquet.read_table(file, columns=columns).to_pydict()
        log_probs = np.array(rows["log_probs"], dtype=np.float32).reshape(-1, len(label_names))
        decisions = None
        if rows["label"] and isinstance(rows["label"][0], list):
            labels, decisions = (
                indicators([[label_names.index(name) for name in row] for row in rows[column]], len(label_names))
                for column in ("label", "predicted")
            )
        else:
            labels = np.array([label_names.index(name) for name in rows["label"]], dtype=np.int64)
    except (pyarrow.ArrowException, OSError, ValueError) as exc:
        raise InvalidData(f"{path}: not the predictions of a run: {str(exc).splitlines()[0]}") from exc
    fields = tuple(dict(pairs) for pairs in rows["fields"])
    groups = None if None in rows["group"] else tuple(rows["group"])
    return Predictions(tuple(rows["text"]), fields, groups, tuple(label_names), labels, log_probs, decisions)


def read_baseline_answers(path: Path, label_names: Sequence[str]) -> dict[BaselineName, Labels]:
    """Read the answers of baselines from the table of a task with one label per row, each [n]; empty without any.

    Raises:
        InvalidData: the file cannot be read, or its labels differ
    """
    try:
        with open_regular(path) as file:
            table = pyarrow.parquet.read_table(file)
        return {
            name: np.array([label_names.index(answer) for answer in table[f"{_BASELINE}{name}"].to_pylist()], np.int64)
            for name in BASELINES
            if f"{_BASELINE}{name}" in table.column_names
        }
    except (pyarrow.ArrowException, OSError, ValueError) as exc:
        raise InvalidData(f"{path}: not the predictions of a run: {str(exc).splitlines()[0]}") from exc
