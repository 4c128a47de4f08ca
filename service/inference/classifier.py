"""Classification as a use case: from a ref and inputs to predictions. Independent of HTTP."""

import asyncio
import random
from collections.abc import Callable

from adapters import Ref, Resolution
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.catalog.catalog import Catalog
from service.catalog.routing import route
from service.errors import DeadlineExceeded
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import Classification, Shadowed, num_wanted, predict
from service.inference.request import InferenceRequest


class Classifier:
    """Resolves and routes a ref, loads its adapter, infers and calibrates, then notifies the observers.

    Args:
        shadow: receives an answered request that a shadow version is to be compared on; must return at once
        on_resolved: receives the version that answers a request
        on_answered: receives each answer
    """

    def __init__(
        self,
        pipeline: InferencePipeline,
        catalog: Catalog,
        adapters: AdapterCache,
        *,
        shadow: Callable[[Shadowed], None] = lambda shadowed: None,
        on_resolved: Callable[[Resolution], None] = lambda resolution: None,
        on_answered: Callable[[Classification], None] = lambda classification: None,
    ) -> None:
        self._pipeline, self._catalog, self._adapters = pipeline, catalog, adapters
        self._shadow, self._on_resolved, self._on_answered = shadow, on_resolved, on_answered

    async def classify(self, ref: Ref, request: InferenceRequest) -> Classification:
        """Answer all items by one version, or none.

        Raises:
            NotFound, Conflict, BackboneMismatch, PrecisionNotValidated: the ref cannot be served
            InvalidRow, TextTooLong: an item does not fit its task; the message says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        try:
            async with asyncio.timeout(request.timeout_s):
                task = self._catalog.task(request.tenant, ref.task)
                routed = route(task, ref, sticky_key=request.sticky_key, draw=random.random)
                self._on_resolved(routed.primary)
                adapter = await self._adapters.get(routed.primary.digest)
                results, stages = await self._pipeline.infer(request, adapter)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {request.timeout_s:g} s") from exc
        top_k = num_wanted(adapter, request.top_k)
        predictions = [predict(result, adapter, top_k=top_k) for result in results]
        classification = Classification(
            request.tenant, routed.primary, predictions, stages, adapter.label_names, adapter.has_profile
        )
        self._on_answered(classification)
        if routed.shadow is not None:
            self._shadow(Shadowed(request, routed.primary, routed.shadow, predictions))
        return classification

    async def try_out(self, tenant: str, adapter: LoadedAdapter, *, timeout_s: float) -> None:
        """Run one forward of an adapter that is not published yet; raises what `classify` would."""
        await self._pipeline.try_out(InferenceRequest(tenant, (), timeout_s), adapter)
