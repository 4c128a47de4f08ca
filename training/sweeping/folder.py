"""The folder of a sweep: `sweep.json`, the study, one run folder per trial, and a lock while it runs."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.numpy
from pydantic import TypeAdapter
from safetensors import safe_open

from adapters.atomic_files import atomic_write
from training.errors import InvalidArguments
from training.loop.events import EvalEvent, TimingTotals, TrainResult
from training.loop.prompt_run_state import best_tensors, best_values, take_out_of_fold, take_readout
from training.runs.folder import locked
from training.runs.identity import differences
from training.scoring.metrics import Metrics

SWEEP, STUDY, PAGE, TRIALS, RESULT = "sweep.json", "study.sqlite", "sweep.html", "trials", "result.safetensors"
_METRICS = TypeAdapter(Metrics)


class SweepFolder:
    """The files of one sweep, locked against other processes."""

    def __init__(self, path: Path, described: Mapping[str, object], *, resume: bool) -> None:
        """Create a sweep's folder, or resume it.

        Args:
            described: the settings that identify the sweep, as JSON

        Raises:
            InvalidArguments: the folder holds a sweep and `resume` is False, or a sweep with other settings
            FolderInUse: another process is using the folder
        """
        self.path = path
        if resume and not (path / SWEEP).exists():
            raise InvalidArguments(f"{path} holds no sweep to resume")
        if not resume and (path / SWEEP).exists():
            raise InvalidArguments(f"{path} already holds a sweep; resume it with --resume, or choose another --out")
        with ExitStack() as held:
            held.enter_context(locked(path))
            self._check(json.loads(json.dumps(described)))
            self._held = held.pop_all()

    def close(self) -> None:
        """Release the lock."""
        self._held.close()

    @property
    def study(self) -> Path:
        return self.path / STUDY

    def trial(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / TRIALS / f"{number:04d}"

    def write(self, outcome: Mapping[str, object]) -> None:
        """Write the results so far into `sweep.json`."""
        self._write({"sweep": self._read()["sweep"], **outcome})

    def write_page(self, page: str) -> None:
        """Write the page with the plots and the table."""
        atomic_write({self.path / PAGE: page.encode()})

    def _check(self, described: dict[str, object]) -> None:
        if not (self.path / SWEEP).exists():
            self._write({"sweep": described})
            return
        was = self._read()["sweep"]
        # a sweep of a version without learned readouts
        cast(dict[str, object], was["space"]).setdefault("readouts", ["words"])
        found_all = differences(was, described)
        # another seed or limit makes other rows: name what was asked before what follows from it
        found = min(found_all, key=lambda difference: difference.name.startswith("data."), default=None)
        if found is not None:
            said = f"{found.name} is {found.was} there, {found.now} was asked"
            raise InvalidArguments(f"{self.path} holds another sweep: {said}")

    def _read(self) -> dict[str, dict[str, object]]:
        return cast(dict[str, dict[str, object]], json.loads((self.path / SWEEP).read_text(encoding="utf-8")))

    def _write(self, value: object) -> None:
        atomic_write({self.path / SWEEP: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()})


def write_result(run: Path, result: TrainResult) -> None:
    """Write a trial's prompts and history into its run folder atomically."""
    values = {
        "best_index": result.best_index,
        "stop": result.stop,
        "spent": asdict(result.timing),
        **best_values(result.readout, result.out_of_fold),
        "evaluations": [
            {field.name: getattr(event, field.name) for field in fields(EvalEvent) if field.name != "prompt"}
            | {"metrics": asdict(event.metrics)}
            for event in result.evaluations
        ],
    }
    prompts = np.stack([event.prompt for event in result.evaluations])  # [E, P, H]
    best = {name: tensor.numpy() for name, tensor in best_tensors(result.readout, result.out_of_fold).items()}
    data = safetensors.numpy.save({"prompts": prompts, **best}, metadata={"result": json.dumps(values)})
    atomic_write({run / RESULT: data})


def read_result(run: Path) -> TrainResult | None:
    """Read what `write_result` wrote; None if the trial has no result."""
    if not (run / RESULT).exists():
        return None
    with safe_open(run / RESULT, framework="pt") as file:
        values = json.loads(file.metadata()["result"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    prompts = tensors["prompts"].numpy()
    evaluations = tuple(
        EvalEvent(**line | {"metrics": _METRICS.validate_python(line["metrics"]), "prompt": prompt})
        for line, prompt in zip(values["evaluations"], prompts, strict=True)
    )
    return TrainResult(
        evaluations,
        values["best_index"],
        values["stop"],
        TimingTotals(**values["spent"]),
        take_readout(tensors, values),
        take_out_of_fold(tensors, values),
    )
