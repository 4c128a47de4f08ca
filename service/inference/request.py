"""The inference request: what one caller asks of a task, and for how long."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from backbone import Truncation
from service.errors import DeadlineExceeded

Item = str | Mapping[str, str] | tuple[str, ...]
"""A text, or the texts of the task's fields: by name, or in the fields' order."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Items to classify by one task. Carried unchanged from the route to the engine's rows."""

    tenant: str
    items: Sequence[Item]
    timeout_s: float
    truncation: Truncation = "error"
    top_k: int | None = None
    """How many of the best labels to return, None for the default of the task's size."""
    sticky_key: str | None = None
    """Requests with the same key get the same version of a bare task name while its traffic is unchanged."""
    background: bool = False
    """Lowest priority, exempt from admission and quotas."""
    request_id: str | None = None
    """The id by which its answer can be corrected later. A caller may have chosen it, so it may not be unique."""
    started: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        """On the clock of `time.monotonic`."""
        return self.started + self.timeout_s

    @asynccontextmanager
    async def before_deadline(self) -> AsyncIterator[None]:
        """Cancel the block at the deadline and raise `DeadlineExceeded`."""
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {self.timeout_s:g} s") from exc
