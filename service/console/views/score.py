"""Score a file: its columns mapped, its rows answered while the page shows how many, the result downloaded.

Nothing is kept: the browser sends the file twice, for the preview and for the answers, and gets the result in the
response.
"""

import asyncio
import base64
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from adapters import InvalidName, Ref
from service.api.draining import Drain
from service.console.api import ApiProblem, Caller, path
from service.console.cards import fields_of, labels_of
from service.console.file_scoring import (
    MAX_ROWS,
    SUFFIXES,
    Asked,
    FileScoring,
    Preview,
    Refused,
    Scored,
    Send,
    can_score_files,
    file_scoring,
)
from service.console.page import Page, text_of
from service.console.views.route import ViewRoute
from service.errors import QueueFull

T = TypeVar("T")
_EVENTS = "text/event-stream"
_POLL_S = 0.25
_SEND_TIMEOUT_S = 60.0
_MAX_TASKS = 100
_TYPES = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".jsonl": "application/jsonl"}
_LIKELY_LABELS = ("label", "labels", "gold", "target", "class", "category")
_TRUNCATE = ("error", "end", "start")


class _Stopped(Exception):
    """The person has left, or the server stops."""


@dataclass
class _Progress:
    """Rows that have their answers; the scoring thread writes, the event loop reads."""

    rows: int = 0
    is_stopped: threading.Event = field(default_factory=threading.Event)

    def add(self, rows: int) -> None:
        """Count rows; raise `_Stopped` in the scoring thread once the result is not wanted."""
        self.rows += rows
        if self.is_stopped.is_set():
            raise _Stopped


@dataclass(frozen=True, slots=True)
class _Upload:
    """A file as the browser sent it."""

    suffix: str
    content: bytes


async def show(page: Page) -> Response:
    """Show the form for a task and a file."""
    listed = await page.api.get("/tasks", {"limit": _MAX_TASKS})
    settings = page.console.runtime.settings
    return await page.render(
        "score.html",
        tasks=[each["task"] for each in listed["tasks"]],
        task=page.query("task"),
        is_available=can_score_files(),
        suffixes=SUFFIXES,
        max_bytes=settings.max_upload_bytes,
        max_rows=MAX_ROWS,
    )


async def preview(page: Page) -> Response:
    """Show the beginning of a file, and ask which column is what."""
    scoring, form = await _scoring(), await page.form()
    ref, card = await _task(page, text_of(form, "task"))
    upload = await _uploaded(form)
    try:
        found = await page.console.scoring.run(page.principal.tenant, lambda: _in_folder(upload, scoring.preview))
    except Refused as exc:
        raise _refusal(str(exc)) from exc
    fields, labels = fields_of(card), labels_of(card)
    return await page.render(
        "_score_preview.html",
        ref=ref,
        found=found,
        fields=[(name, _likely(name, found)) for name in fields],
        label_column=next((each for each in found.columns if each.lower() in _LIKELY_LABELS), ""),
        labels=labels,
        returns_lines=upload.suffix == ".parquet",
    )


async def run(page: Page) -> Response:
    """Score a file; the response is a stream of progress with the result at its end."""
    scoring, form = await _scoring(), await page.form()
    ref, card = await _task(page, text_of(form, "task"))
    asked, upload = _asked(form, ref, fields_of(card)), await _uploaded(form)
    return StreamingResponse(_events(page, scoring, upload, asked), media_type=_EVENTS)


async def _events(page: Page, scoring: FileScoring, upload: _Upload, asked: Asked) -> AsyncIterator[str]:
    """Yield the progress until the thread ends; if the person leaves, the thread ends with its next row."""
    progress, drain = _Progress(), page.request.scope["state"]["drain"]
    assert isinstance(drain, Drain)
    try:
        async with page.console.api.as_principal(page.request, page.principal) as caller:
            send = _send_of(caller)

            def score() -> tuple[Scored, list[dict[str, str]]]:
                return _in_folder(upload, lambda file: _score(scoring, file, asked, send, progress))

            work = asyncio.ensure_future(page.console.scoring.run(page.principal.tenant, score))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nothing may wait for it
            while not (await asyncio.wait([work], timeout=_POLL_S))[0]:
                yield _event("progress", {"rows": progress.rows})
                if drain.is_draining:
                    progress.is_stopped.set()
            scored, files = work.result()
            html = await page.text("_score_result.html", scored=scored)
            yield _event("result", {"html": html, "files": files})
    except (Refused, QueueFull) as exc:
        yield _event("refused", {"detail": str(exc)})
    except _Stopped:
        yield _event("refused", {"detail": "the server stops: send the file again in a moment"})
    finally:
        progress.is_stopped.set()


def _in_folder(upload: _Upload, work: Callable[[Path], T]) -> T:
    """Do work on an uploaded file, which is deleted afterwards with all that the work writes next to it. Blocks."""
    with tempfile.TemporaryDirectory(prefix="superpos-score-") as folder:
        file = Path(folder) / f"file{upload.suffix}"
        file.write_bytes(upload.content)
        return work(file)


def _score(
    scoring: FileScoring, file: Path, asked: Asked, send: Send, progress: _Progress
) -> tuple[Scored, list[dict[str, str]]]:
    """Score a file; return the files for the browser to save. Blocks."""
    scored = scoring.score(file, asked, send=send, on_rows=progress.add)
    files = [_saved(scored.file, f"scored{scored.file.suffix}")]
    if scored.rejected is not None:
        files.append(_saved(scored.rejected, "rejected.jsonl"))
    return scored, files


def _saved(file: Path, name: str) -> dict[str, str]:
    content = base64.b64encode(file.read_bytes()).decode()
    return {"name": name, "type": _TYPES[file.suffix], "content": content}


def _send_of(caller: Caller) -> Send:
    """Return what sends requests of the scoring thread to the API on this event loop."""
    loop = asyncio.get_running_loop()

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        sending = asyncio.run_coroutine_threadsafe(caller.exchange(method, target, headers, body), loop)
        answer = sending.result(timeout=_SEND_TIMEOUT_S)
        return answer.status, answer.headers, answer.content

    return send


async def _scoring() -> FileScoring:
    if not can_score_files():
        raise _refusal("this server cannot read files: the package pyarrow is not installed; use superpos score")
    return await asyncio.to_thread(file_scoring)


async def _task(page: Page, text: str) -> tuple[str, Mapping[str, Any]]:
    """Return the version that a ref means, as a ref, and its card."""
    try:
        ref = Ref.parse(text)
    except InvalidName as exc:
        raise _refusal(f"task: {exc}") from exc
    info = await page.api.get(path("tasks", ref.task))
    number = ref.version or info["aliases"].get(ref.alias or "production")
    digests = {each["version"]: each["adapter"] for each in info["versions"]}
    if ref.digest is not None:
        number = next((each for each, digest in digests.items() if digest.startswith(ref.digest)), None)
    if number not in digests:
        raise ApiProblem(404, {"code": "not_found", "detail": f"no version {text!r}"}, {})
    return f"{ref.task}@{number}", await page.console.cards.get(page.api, ref.task, number, digests[number])


async def _uploaded(form: FormData) -> _Upload:
    """Return the uploaded file (`ApiProblem` if there is none, or it is of another format)."""
    upload = form.get("file")
    if not isinstance(upload, UploadFile) or not upload.filename:
        raise _refusal("there is no file: choose one")
    suffix = Path(upload.filename).suffix.lower()
    if suffix not in SUFFIXES:
        raise _refusal(f"the file's name ends with {suffix or 'no format'!r}, expected {', '.join(SUFFIXES)}")
    return _Upload(suffix, await upload.read())


def _asked(form: FormData, ref: str, fields: tuple[str, ...]) -> Asked:
    truncate = text_of(form, "truncate") or _TRUNCATE[0]
    if truncate not in _TRUNCATE:
        raise _refusal(f"truncate is {truncate!r}, expected {', '.join(_TRUNCATE)}")
    columns = {name: str(form.get(f"column-{name}", "")) for name in fields}
    if missing := [name for name, column in columns.items() if not column]:
        raise _refusal(f"no column is chosen for {', '.join(missing)}")
    return Asked(
        ref=ref,
        columns=columns,
        label_column=str(form.get("label_column", "")) or None,
        label_values=_values(text_of(form, "label_values")),
        truncate=truncate,
        scores="scores" in form,
    )


def _values(text: str) -> dict[str, str]:
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    if bad := next((name for name, equals, label in pairs if not (name and equals and label)), None):
        raise _refusal(f"{bad!r} is not a pair, expected value=label, such as 1=positive, 0=negative")
    return {name.strip(): label.strip() for name, _, label in pairs}


def _likely(name: str, found: Preview) -> str:
    """Return the column of a field: the one of its name, or else the one with the longest texts."""
    if name in found.columns:
        return name
    lengths = [sum(len(row[index]) for row in found.rows) for index in range(len(found.columns))]
    return found.columns[lengths.index(max(lengths))] if any(lengths) else ""


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _refusal(detail: str) -> ApiProblem:
    return ApiProblem(400, {"code": "invalid_request", "detail": detail}, {})


ROUTES = [
    ViewRoute("GET", "/score", show),
    ViewRoute("POST", "/score/preview", preview, body="upload"),
    ViewRoute("POST", "/score/run", run, body="upload"),
]
