"""Classification as a use case: from a ref and inputs to predictions. Independent of HTTP."""

import asyncio
import random
from collections.abc import Callable, Sequence

from adapters import Ref, Resolution
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.catalog.catalog import Catalog
from service.catalog.routing import Route, route
from service.inference.pipeline import REFUSALS, InferencePipeline, InferenceResult
from service.inference.predictions import Answered, Classification, Shadowed, num_wanted, predict_all
from service.inference.request import InferenceRequest


class Classifier:
    """Resolves and routes a ref, loads its adapter, infers and calibrates, then notifies the observers.

    Args:
        shadow: receives an answered request that a shadow version is to be compared on; must return at once
        on_resolved: receives the version that answers a request
        on_answered: receives each answer
        keep: receives each answer with its texts; must return at once
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
        keep: Callable[[Answered], None] = lambda answered: None,
    ) -> None:
        self._pipeline, self._catalog, self._adapters = pipeline, catalog, adapters
        self._shadow, self._on_resolved, self._on_answered, self._keep = shadow, on_resolved, on_answered, keep

    async def classify(self, ref: Ref, request: InferenceRequest) -> Classification:
        """Answer all items by one version, or none.

        Raises:
            NotFound, Conflict, BackboneMismatch, PrecisionNotValidated: the ref cannot be served
            InvalidRow, TextTooLong: an item does not fit its task; the message says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        return await self._classify(self._route(ref, request), request)

    async def classify_by_several(
        self, refs: Sequence[str], request: InferenceRequest
    ) -> list[Classification | Exception]:
        """Return for each ref what `classify` would return, or the error that it would raise.

        The rows of all versions in memory are submitted together. None of them waits for a version that is not.
        """
        routes = [self._route_or_error(ref, request) for ref in refs]
        loaded = [self._adapters.loaded(route.primary.digest) if isinstance(route, Route) else None for route in routes]
        pairs = list(zip(routes, loaded, strict=True))
        async with asyncio.TaskGroup() as group:
            together = group.create_task(
                self._classify_together(
                    [(route, adapter) for route, adapter in pairs if isinstance(route, Route) and adapter], request
                )
            )
            apart = [
                group.create_task(self._classify_or_error(route, request))
                for route, adapter in pairs
                if isinstance(route, Route) and not adapter
            ]
        answers, others = iter(together.result()), iter(apart)
        return [
            route if isinstance(route, Exception) else next(answers) if adapter else next(others).result()
            for route, adapter in pairs
        ]

    def _route(self, ref: Ref, request: InferenceRequest) -> Route:
        """Return the version that answers, and report it."""
        task = self._catalog.task(request.tenant, ref.task)
        routed = route(task, ref, sticky_key=request.sticky_key, draw=random.random)
        self._on_resolved(routed.primary)
        return routed

    def _route_or_error(self, ref: str, request: InferenceRequest) -> Route | Exception:
        try:
            return self._route(Ref.parse(ref), request)
        except REFUSALS as exc:
            return exc

    async def _classify(self, routed: Route, request: InferenceRequest) -> Classification:
        async with request.before_deadline():
            adapter = await self._adapters.get(routed.primary.digest)
            result = await self._pipeline.infer(request, adapter)
        return await self._answer(request, routed, adapter, result)

    async def _classify_or_error(self, routed: Route, request: InferenceRequest) -> Classification | Exception:
        try:
            return await self._classify(routed, request)
        except REFUSALS as exc:
            return exc

    async def _classify_together(
        self, parts: Sequence[tuple[Route, LoadedAdapter]], request: InferenceRequest
    ) -> list[Classification | Exception]:
        outcomes = await self._pipeline.infer_together(request, [adapter for _, adapter in parts])
        return [
            outcome if isinstance(outcome, Exception) else await self._answer(request, routed, adapter, outcome)
            for (routed, adapter), outcome in zip(parts, outcomes, strict=True)
        ]

    async def _answer(
        self, request: InferenceRequest, routed: Route, adapter: LoadedAdapter, result: InferenceResult
    ) -> Classification:
        """Calibrate the results and notify the observers."""
        results, stages = result
        top_k = num_wanted(adapter, request.top_k)
        predictions = await predict_all(results, adapter, top_k=top_k)
        classification = Classification(
            request.tenant,
            routed.primary,
            predictions,
            stages,
            adapter.label_names,
            adapter.has_profile,
            adapter.precision,
            is_multi_label=adapter.label_thresholds is not None,
        )
        self._on_answered(classification)
        self._keep(Answered(request, adapter.template.fields, classification))
        if routed.shadow is not None:
            self._shadow(Shadowed(request, routed.primary, routed.shadow, predictions))
        return classification

    async def try_out(self, tenant: str, adapter: LoadedAdapter, *, timeout_s: float) -> None:
        """Run one forward of an adapter that is not published yet; raises what `classify` would."""
        await self._pipeline.try_out(InferenceRequest(tenant, (), timeout_s), adapter)
