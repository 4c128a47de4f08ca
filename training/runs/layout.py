"""Names of the files in a run's folder, and the reading of those in JSON; importing them does not import torch."""

import json
from pathlib import Path
from typing import Any

from adapters.regular_files import read_regular

MAX_JSON_BYTES = 64 << 20
"""Size limit of the JSON files below."""
ADAPTER = "adapter"
RUN = "run.json"
"""The run's task, arguments, data, backbone and environment."""
METRICS = "metrics.jsonl"
"""One line per evaluation of the selection rows."""
STEPS = "steps.jsonl"
"""One line per step, with the loss of its batch."""
METHOD = "method.safetensors"
"""The method's trained tensors at the best epoch; `weights` are p′ [P, m]."""
PREDICTIONS = "predictions.parquet"
"""The report rows with the best prompt's predictions."""
WORDS = "words.json"
"""The vocabulary nearest to the prompt, in words."""
COST = "cost.json"
"""Seconds, rows per second, memory."""
RESULT = "result.json"
"""The run's results; the run is finished once this file exists."""
CHOICE = "choice.json"
"""Above runs of several methods, readouts or rates: which of them the selection rows chose, and why."""
REPORT = "report.html"
TASK = "task.yaml"
"""The task file that was guessed from rows, if the command was given rows instead of a task file."""
PLOTS = "plots"


def read_json(path: Path) -> Any:
    """Read a file that holds JSON (`OSError`, also for a link or a large file; `ValueError`)."""
    return json.loads(read_regular(path, max_bytes=MAX_JSON_BYTES))
