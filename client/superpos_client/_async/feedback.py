"""`client.feedback`: corrections of answers, and what the server keeps to be corrected."""

from collections.abc import AsyncIterator, Mapping, Sequence

from superpos_client import calls
from superpos_client._async.transport import AsyncTransport
from superpos_client.feedback import Correction, Dataset, FeedbackPage, FeedbackRow, FeedbackState, View


class AsyncFeedback:
    """Kept answers and corrections of the key's tenant, which must have opted in to keeping texts."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def correct(
        self,
        label: str | Sequence[str],
        *,
        request_id: str | None = None,
        task: str | None = None,
        index: int | None = None,
        text: str | Mapping[str, str] | None = None,
        row: str | None = None,
        who: str | None = None,
    ) -> Correction:
        """Say which label is right. A later correction of the same text replaces it.

        Args:
            label: a label of the task; for a multi-label task the list of all labels that the text has
            request_id: of the prediction, which the server has kept
            task: the task of the text, or of the request if it was for several
            index: of the input in its request, if it had several
            text: instead of a request: a text, or the text of each field
            row: instead of a request: the id of a row that `list` yields
            who: the person who says so, by whom it can be deleted

        Raises:
            Conflict: the tenant has not opted in (`code` is `retention_off`), or its limit is reached
            NotFound: the server has no such task, row, or answer of the request
            Invalid: the task does not have the label, or the text does not fit it
        """
        call = calls.correct(label, request_id=request_id, task=task, index=index, text=text, row=row, who=who)
        return await self._transport.send(call)

    async def state(self) -> FeedbackState:
        """Return for how long the tenant keeps texts, and how many bytes they take."""
        return await self._transport.send(calls.feedback_state())

    async def page(
        self, task: str, view: View = "least_confident", *, cursor: str | None = None, limit: int = 100
    ) -> FeedbackPage:
        """Return a part of a view, with the number of rows of every view.

        Args:
            task: the task
            view: which rows, in which order
            cursor: of the part before
            limit: maximum number of rows, up to 1,000
        """
        return await self._transport.send(calls.feedback(task, view, cursor, limit))

    async def list(self, task: str, view: View = "least_confident") -> AsyncIterator[FeedbackRow]:
        """Yield all rows of a view."""
        cursor: str | None = None
        while True:
            page = await self.page(task, view, cursor=cursor, limit=calls.PAGE)
            for row in page.rows:
                yield row
            if page.cursor is None:
                return
            cursor = page.cursor

    async def export(self, task: str) -> Dataset:
        """Return all corrections of a task with their version, without the persons who gave them."""
        return await self._transport.send(calls.export_feedback(task))

    async def delete(
        self, ids: Sequence[str] = (), *, who: str | None = None, task: str | None = None, everything: bool = False
    ) -> int:
        """Delete rows for ever, and return their number.

        Args:
            ids: these rows, at most 100
            who: all corrections by this person
            task: only those of this task; without a person, all rows of it
            everything: all rows of the tenant
        """
        return await self._transport.send(calls.delete_feedback(ids, who, task, everything=everything))
