# Written by scripts/sync_client.py from _async/classifier.py: change that file.
"""Predictions: of one input, of a list, of a stream, of a data frame, and by several tasks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from superpos_client import calls, frames
from superpos_client._sync import bulk
from superpos_client._sync.transport import Transport
from superpos_client.answers import Options, Prediction, Row, Rows, Truncate, encode_row
from superpos_client.errors import SuperposError
from superpos_client.frames import FrameT
from superpos_client.stream import DEFAULT_CONCURRENCY, DEFAULT_PATIENCE_S, OnWait, Plan

OnError = Literal["raise", "return"]


class Classifier:
    """Classifies by the tasks of a server."""

    _transport: Transport

    @overload
    def classify(  # type: ignore[overload-overlap] # a text is a sequence of texts to a type checker
        self,
        ref: str,
        inputs: str | Mapping[str, str],
        *,
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        timeout: float | None = ...,
    ) -> Prediction: ...

    @overload
    def classify(
        self,
        ref: str,
        inputs: Sequence[Row],
        *,
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        timeout: float | None = ...,
    ) -> list[Prediction]: ...

    def classify(
        self,
        ref: str,
        inputs: Row | Sequence[Row],
        *,
        truncate: Truncate = "error",
        top_k: int | None = None,
        sticky_key: str | None = None,
        timeout: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Classify one input or a list of inputs, all by one version.

        A list that one request cannot hold is sent in several, each with the timeout of a call.

        Args:
            ref: `task`, `task@3`, `task@alias` or `task@sha256:…`
            inputs: texts, or objects with the task's fields
            truncate: which end of a text over the task's limit to cut; by default such a text is an error
            top_k: number of best labels in `scores`; by default all of up to 20, else 5
            sticky_key: requests with the same key get the same version while a canary has a share
            timeout: seconds; by default the client's

        Raises:
            SuperposError: no answer; of a list, either all inputs are answered or none
        """
        rows = [inputs] if isinstance(inputs, str | Mapping) else list(inputs)
        if not rows:
            return []
        options = Options(truncate=truncate, top_k=top_k, sticky_key=sticky_key)
        encoded = [encode_row(row) for row in rows]
        limits = self._transport.limits()
        size = sum(map(len, encoded)) + len(encoded)
        if len(rows) > limits.max_rows_per_request or size > calls.room_for_rows(limits, options):
            seconds = self._transport.timeout_s if timeout is None else timeout
            plan = Plan(pin=True, raises=True)
            outcomes = bulk.run(self._transport, ref, rows, options=options, plan=plan, timeout_s=seconds)
            return [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
        found = self._transport.send(calls.classify(ref, encoded, options), timeout)
        return found[0] if isinstance(inputs, str | Mapping) else found

    @overload
    def classify_tasks(
        self,
        refs: Sequence[str],
        inputs: str | Mapping[str, str],
        *,
        on_error: Literal["raise"] = ...,
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        timeout: float | None = ...,
    ) -> dict[str, Prediction]: ...

    @overload
    def classify_tasks(
        self,
        refs: Sequence[str],
        inputs: str | Mapping[str, str],
        *,
        on_error: Literal["return"],
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        timeout: float | None = ...,
    ) -> dict[str, Prediction | SuperposError]: ...

    def classify_tasks(
        self,
        refs: Sequence[str],
        inputs: Row,
        *,
        on_error: OnError = "raise",
        truncate: Truncate = "error",
        top_k: int | None = None,
        sticky_key: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Prediction] | dict[str, Prediction | SuperposError]:
        """Classify one input by several tasks, whose rows share the server's batches.

        Args:
            refs: the tasks
            inputs: a text that fits every task with one field, or an object
            on_error: `return` gives the error of a failed task in its place, `raise` raises the first
            truncate: as in `classify`
            top_k: as in `classify`
            sticky_key: as in `classify`
            timeout: seconds; by default the client's

        Raises:
            SuperposError: a task failed; with `return`, every task failed
        """
        if isinstance(refs, str):
            raise TypeError(f"refs is {refs!r}, expected a list of refs")
        self._transport.limits()
        options = Options(truncate=truncate, top_k=top_k, sticky_key=sticky_key)
        call = calls.classify_tasks(refs, [encode_row(inputs)], options, address=self._transport.server.name)
        found: dict[str, Prediction | SuperposError] = {}
        results = self._transport.send(call, timeout)
        for ref, result in zip(refs, results, strict=True):
            if isinstance(result, SuperposError) and on_error == "raise":
                result.add_note(f"task {ref}")
                raise result
            found[ref] = result if isinstance(result, SuperposError) else result[0]
        return found

    @overload
    def classify_many(
        self,
        ref: str,
        rows: Rows,
        *,
        on_error: Literal["raise"] = ...,
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        chunk: int | None = ...,
        concurrency: int = ...,
        timeout: float | None = ...,
        patience: float = ...,
        pin: bool = ...,
        on_wait: OnWait | None = ...,
    ) -> Iterator[Prediction]: ...

    @overload
    def classify_many(
        self,
        ref: str,
        rows: Rows,
        *,
        on_error: Literal["return"],
        truncate: Truncate = ...,
        top_k: int | None = ...,
        sticky_key: str | None = ...,
        chunk: int | None = ...,
        concurrency: int = ...,
        timeout: float | None = ...,
        patience: float = ...,
        pin: bool = ...,
        on_wait: OnWait | None = ...,
    ) -> Iterator[Prediction | SuperposError]: ...

    def classify_many(
        self,
        ref: str,
        rows: Rows,
        *,
        on_error: OnError = "raise",
        truncate: Truncate = "error",
        top_k: int | None = None,
        sticky_key: str | None = None,
        chunk: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        timeout: float | None = None,
        patience: float = DEFAULT_PATIENCE_S,
        pin: bool = False,
        on_wait: OnWait | None = None,
    ) -> Iterator[Any]:
        """Classify any number of rows: one outcome per row, in order, in bounded memory.

        Rows are read as they are needed, and sent in requests that the server's limits allow. A busy server (429) is
        waited for and gets fewer requests at a time. A row that the server refuses fails alone.

        Args:
            ref: as in `classify`
            rows: texts, or objects with the task's fields
            on_error: `return` yields the error of a row in its place; `raise` raises the first, with its `row`
            truncate: as in `classify`
            top_k: as in `classify`
            sticky_key: as in `classify`
            chunk: rows per request; by default a quarter of what the server accepts
            concurrency: most requests at a time
            timeout: seconds for a request and its retries; by default the longest that the server allows
            patience: seconds without any answer after which 429 is raised
            pin: answer all rows by the version that answers the first
            on_wait: called with the seconds and the error for which sending pauses

        Raises:
            SuperposError: no row can be answered (an unknown task, a wrong key), or a row failed and `on_error` is
                `raise`
        """
        options = Options(truncate=truncate, top_k=top_k, sticky_key=sticky_key)
        plan = Plan(
            chunk=chunk,
            concurrency=concurrency,
            patience_s=patience,
            pin=pin,
            raises=_raises(on_error),
            on_wait=on_wait,
        )
        return bulk.run(self._transport, ref, rows, options=options, plan=plan, timeout_s=timeout)

    def frame(
        self,
        ref: str,
        data: FrameT,
        *,
        text: str | Mapping[str, str],
        on_error: OnError = "raise",
        truncate: Truncate = "error",
        pin: bool = True,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> FrameT:
        """Classify the rows of a data frame of pandas or polars.

        The result has a row for each of `data`, with the same index in pandas, and the columns `label`, `score`,
        `abstained`, `truncated`, `version`, `digest` and `error`; for ordinal tasks also `value`, for multi-label
        tasks `labels`.

        Args:
            ref: as in `classify`
            data: the rows
            text: the column of a task with one field, or the column of each field
            on_error: `return` leaves a row that failed without a label and puts the reason into `error`
            truncate: as in `classify`
            pin: answer all rows by the version that answers the first
            concurrency: most requests at a time

        Raises:
            TypeError: not a data frame
            KeyError: no such column
            SuperposError: as in `classify_many`
        """
        rows = frames.rows_of(data, text)
        plan = Plan(pin=pin, raises=_raises(on_error), concurrency=concurrency)
        outcomes = bulk.run(self._transport, ref, rows, options=Options(truncate=truncate), plan=plan, timeout_s=None)
        return frames.frame_like(data, [outcome for outcome in outcomes])


def _raises(on_error: str) -> bool:
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'return'")
    return on_error == "raise"
