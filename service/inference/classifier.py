"""Classification as a use case: from a ref and inputs to predictions. Nothing of HTTP in it."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from adapters import Ref, Resolution
from backbone import Truncation
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.catalog.catalog import Catalog
from service.catalog.routing import route
from service.errors import DeadlineExceeded
from service.inference.pipeline import InferenceContext, InferencePipeline
from service.inference.predictions import (
    Classification,
    Item,
    Shadowed,
    num_searched,
    num_wanted,
    predict,
)


class Classifier:
    """Resolve, route, answer, calibrate; then tell whoever counts and compares."""

    def __init__(
        self,
        answering: InferencePipeline,
        catalog: Catalog,
        adapters: AdapterCache,
        *,
        weight: Callable[[str], float] = lambda tenant: 1.0,
        shadow: Callable[[Shadowed], None] = lambda rows: None,
        on_resolved: Callable[[Resolution], None] = lambda resolution: None,
        on_answered: Callable[[Classification], None] = lambda classification: None,
    ) -> None:
        """The parts it works with.

        Args:
            weight: a tenant's share against the others'
            shadow: given what another version is to be compared on, once it is answered; returns at once
        """
        self._answering, self._catalog, self._adapters = answering, catalog, adapters
        self._weight, self._shadow = weight, shadow
        self._on_resolved, self._on_answered = on_resolved, on_answered

    async def classify(
        self,
        tenant: str,
        ref: Ref,
        items: Sequence[Item],
        *,
        truncation: Truncation,
        top_k: int | None,
        timeout_s: float,
        sticky_key: str | None = None,
    ) -> Classification:
        """Answer every item, or none, all by one version.

        Args:
            sticky_key: requests with the same one get the same version of a bare task name, while its traffic is as is

        Raises:
            NotFound, Conflict, BackboneMismatch: what the ref means cannot be served
            InvalidRow, TextTooLong: an item does not fit its task; says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                to = route(self._catalog.task(tenant, ref.task), ref, sticky_key=sticky_key, draw=random.random)
                self._on_resolved(to.primary)
                adapter = await self._adapters.get(to.primary.digest)
                wanted = num_wanted(adapter, top_k)
                search = num_searched(adapter, wanted)
                asked = InferenceContext(tenant, self._weight(tenant), adapter, truncation, search, deadline)
                answered = await self._answering.answer(asked, items)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {timeout_s:g} s") from exc
        predictions = [
            predict(result, adapter, top_k=wanted, cached=cached)
            for result, cached in zip(answered.results, answered.cached, strict=True)
        ]
        classification = Classification(
            tenant, to.primary, predictions, answered.stages, adapter.label_names, adapter.watched
        )
        self._on_answered(classification)
        if to.shadow is not None:
            self._shadow(Shadowed(tenant, to.primary, to.shadow, items, truncation, predictions))
        return classification

    async def try_out(self, tenant: str, adapter: LoadedAdapter, *, timeout_s: float) -> None:
        """One real forward of an adapter that nobody can name yet; raises what `classify` would."""
        deadline = time.monotonic() + timeout_s
        await self._answering.try_out(InferenceContext(tenant, self._weight(tenant), adapter, "error", None, deadline))
