"""Coefficients of a machine: what a batch, a request and an adapter cost on it, and where the figures are from."""

import json
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters import strict_json
from adapters.atomic_files import atomic_write
from adapters.errors import first_error
from sizing.errors import InvalidCoefficients, NotMeasured

Precision = Literal["fp32", "int8", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SHIPPED = "measured.json"
"""The coefficients that come with the package, next to this module."""

_Seconds = Annotated[float, Field(ge=0)]
_Bytes = Annotated[int, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BatchTime(_Frozen):
    """Duration of a model batch: `batch_s + row_s · rows + token_s · tokens`, for one precision and number of threads.

    Tokens are those that the scheduler counts: prompt, text, and further nodes of the label trie.
    """

    precision: Precision
    threads: _Count
    batch_s: _Seconds
    row_s: _Seconds
    token_s: Annotated[float, Field(gt=0)]
    max_error: _Seconds = 0.0
    """Largest relative difference from a measured batch; 0.1 is 10 %."""

    def seconds(self, rows: int, tokens: float) -> float:
        """Return the duration of one batch."""
        return self.batch_s + self.row_s * rows + self.token_s * tokens


class Origin(_Frozen):
    """The machine that the coefficients are from, and how and when they were measured."""

    processor: str
    cores: _Count
    backbone: str
    width: _Count
    """H of the backbone."""
    measured_on: date
    command: str
    software: dict[str, str] = {}


class Coefficients(_Frozen):
    """All coefficients of a machine with one backbone."""

    schema_version: Literal[1] = 1
    origin: Origin
    batches: Annotated[tuple[BatchTime, ...], Field(min_length=1)]
    request_s: _Seconds
    """Processor time of the event loop per request."""
    request_row_s: _Seconds
    """Processor time of the event loop per row of a request, in addition."""
    overhead_s: _Seconds
    """Duration of a request of one row, less its time in the queue and in the model."""
    start_s: _Seconds
    """From the start of a server's process until it is ready."""
    load_adapter_s: _Seconds
    """From the registry's answer to an adapter that can be served."""
    server_bytes: _Bytes
    """Resident memory of a server in fp32 after its largest batch, without adapters."""
    adapter_bytes: _Bytes
    """Growth of a server's resident memory per adapter."""
    version_bytes: _Bytes
    """Growth of the registry per version."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that were measured."""
        return tuple(precision for precision in PRECISIONS if any(each.precision == precision for each in self.batches))

    def threads_of(self, precision: Precision) -> list[int]:
        """Return the measured numbers of threads, ascending (`NotMeasured` if the precision was not)."""
        return [each.threads for each in self._measured(precision)]

    def batch_time(self, precision: Precision, threads: int) -> BatchTime:
        """Return the duration of batches on a number of threads.

        A number that was not measured follows Amdahl's law through the fewest and the most threads that were: each
        coefficient has a part that all threads share and a part that one does alone.

        Raises:
            NotMeasured: the precision was not measured, or with one number of threads only
        """
        measured = self._measured(precision)
        for each in measured:
            if each.threads == threads:
                return each
        fewest, most = measured[0], measured[-1]
        if fewest is most:
            raise NotMeasured(
                f"{precision} was measured with {most.threads} threads only, expected --cores {most.threads}; or "
                f"measure again on a machine with {threads} cores: superpos size --measure FILE"
            )

        def scaled(name: str) -> float:
            return _amdahl((fewest.threads, getattr(fewest, name)), (most.threads, getattr(most, name)), threads)

        return BatchTime(
            precision=precision,
            threads=threads,
            batch_s=scaled("batch_s"),
            row_s=scaled("row_s"),
            token_s=scaled("token_s"),
            max_error=max(fewest.max_error, most.max_error),
        )

    def _measured(self, precision: Precision) -> list[BatchTime]:
        found = sorted((each for each in self.batches if each.precision == precision), key=lambda each: each.threads)
        if not found:
            raise NotMeasured(f"precision {precision!r} was not measured, expected {' or '.join(self.precisions)}")
        return found


def _amdahl(fewer: tuple[int, float], more: tuple[int, float], threads: int) -> float:
    """Return `alone + shared ÷ threads` through two measured points (threads, value); neither part is negative."""
    (few, slow), (many, fast) = fewer, more
    shared = max(0.0, (slow - fast) / (1 / few - 1 / many))
    alone = max(0.0, fast - shared / many)
    if alone == 0:
        shared = fast * many
    return alone + shared / threads


def shipped() -> Coefficients:
    """Return the coefficients that come with the package."""
    return _parsed(files("sizing").joinpath(SHIPPED).read_bytes(), SHIPPED)


def read(path: Path) -> Coefficients:
    """Read a file of coefficients.

    Raises:
        InvalidCoefficients: it is not one
        OSError: it cannot be read
    """
    return _parsed(path.read_bytes(), str(path))


def write(coefficients: Coefficients, path: Path) -> None:
    """Write a file of coefficients; an existing one is replaced.

    Raises:
        OSError: it cannot be written
    """
    atomic_write({path: (json.dumps(coefficients.model_dump(mode="json"), indent=2) + "\n").encode()})


def _parsed(data: bytes, where: str) -> Coefficients:
    expected = "expected a file that 'superpos size --measure FILE' wrote"
    try:
        value = strict_json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidCoefficients(f"{where} is not JSON ({exc}), {expected}") from exc
    try:
        return Coefficients.model_validate(value)
    except ValidationError as exc:
        member, found, message = first_error(exc)
        raise InvalidCoefficients(f"{where}: {member} is {found}: {message}; {expected}") from exc
