"""Loaded adapters, ready for the model thread: parsed, checked against the backbone, with their readout.

`AdapterCache` belongs to the event loop. Concurrent requests for one digest share one load, and no request waits for
another digest's load.
"""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from adapters import Change, PromptAdapter, Registry
from adapters.errors import AdapterError, InvalidAdapter, NotValidatedInPrecision, RowTooLarge
from adapters.files import CheckResult, check_all, from_files
from adapters.task import MAX_TASK_TOKENS
from adapters.template import Template
from backbone import Backbone, BackboneError, Frame, LabelTrie, Precision
from service.catalog.learned_labels import LearnedLabels, adapter_rows
from service.catalog.precisions import Precisions
from service.errors import BackboneMismatch, OverServerLimit, PrecisionNotValidated, ServiceError

_MAX_LOADS = 32
"""Concurrent loads; more than the number of calls that reach a hung registry before it is noticed."""


@dataclass(slots=True, eq=False)
class LoadedAdapter:
    """The parts of a version that classification needs, and no more: ten thousand of them are in memory."""

    digest: str
    rows: NDArray[np.float32] | None
    """[R, H], the prompt and a learned readout (`adapter_rows`) while they are in host memory; None while they are in
    the prompt table, which returns them on eviction.

    From the adapter's first submitted row on they belong to the model thread.
    """
    num_virtual_tokens: int
    template: Template
    frame: Frame
    """The template in the tokenizer's form."""
    label_names: tuple[str, ...]
    readout: LabelTrie | LearnedLabels
    max_tokens: int
    temperature: float
    abstain_threshold: float | None
    values: tuple[float, ...] | None = None
    """Ordinal tasks: each label's number."""
    label_thresholds: tuple[float, ...] | None = None
    """Multi-label tasks: the probability from which on a text has each label; None in other tasks."""
    has_profile: bool = False
    """Whether the version has a validation profile to compare its answers with."""
    precision: Precision = "fp32"
    """Precision of the backbone that answers its rows."""
    fp32: Backbone | None = None
    """The float32 backbone that answers its rows if the server's precision does not suit it; None: the server's."""
    num_bytes: int = 0
    """Size of the prompt and the learned readout, in host memory or in the prompt table, and of the label trie."""


@dataclass(frozen=True, slots=True)
class RowLimits:
    """The largest row that the operator permits an adapter, which bounds how long one row occupies the model."""

    max_text_tokens: int = MAX_TASK_TOKENS
    """Largest `max_tokens` of a task."""
    max_trie_nodes: int = sys.maxsize
    """Largest number of trie nodes that a task's labels may take to decode."""

    def check_text(self, adapter: PromptAdapter) -> None:
        """Refuse an adapter whose texts may be too long (`RowTooLarge`)."""
        if adapter.spec.max_tokens > self.max_text_tokens:
            raise RowTooLarge(
                "superpos.json: task.max_tokens",
                adapter.spec.max_tokens,
                f"at most {self.max_text_tokens}, this server's limit: train the task with fewer, or ask the operator "
                "to raise SUPERPOS_MAX_TEXT_TOKENS",
            )

    def check_labels(self, trie: LabelTrie) -> None:
        """Refuse an adapter whose labels take too many nodes to decode (`RowTooLarge`)."""
        if trie.num_decoded > self.max_trie_nodes:
            raise RowTooLarge(
                "label trie nodes",
                trie.num_decoded,
                f"at most {self.max_trie_nodes}, this server's limit: choose shorter label words or words that differ "
                "earlier, or ask the operator to raise SUPERPOS_MAX_TRIE_NODES",
            )


def load_adapter(
    adapter: PromptAdapter,
    backbone: Backbone,
    *,
    fp32_for: Callable[[PromptAdapter], Backbone | None] = lambda adapter: None,
    limits: RowLimits = RowLimits(),
) -> LoadedAdapter:
    """Check an adapter against the backbone and build the trie of its label words, unless its readout is learned.

    Args:
        adapter: with its manifest
        backbone: the server's
        fp32_for: returns the float32 backbone for an adapter that the server's precision does not suit
        limits: largest texts and label tries that the server permits

    Raises:
        InvalidAdapter: another width or fingerprint, over a limit, or as `fp32_for` raises
        backbone.InvalidLabels: label words that the tokenizer cannot tell apart
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    limits.check_text(adapter)
    readout = _readout(adapter, backbone, limits)
    fp32 = fp32_for(adapter)
    calibration, template = adapter.manifest.calibration, adapter.spec.parsed_template
    rows = adapter_rows(adapter)
    return LoadedAdapter(
        digest=sys.intern(adapter.digest),
        rows=rows,
        num_virtual_tokens=adapter.num_virtual_tokens,
        template=template,
        frame=backbone.tokenizer.frame(template.literals, template.placeholders),
        label_names=adapter.spec.label_names,
        readout=readout,
        max_tokens=adapter.spec.max_tokens,
        temperature=calibration.temperature,
        abstain_threshold=calibration.abstain_threshold,
        values=tuple(map(float, adapter.spec.label_names)) if adapter.spec.kind == "ordinal" else None,
        label_thresholds=_label_thresholds(adapter),
        has_profile=adapter.manifest.validation is not None,
        precision=(fp32 or backbone).precision,
        fp32=fp32,
        num_bytes=rows.nbytes + (readout.num_bytes if isinstance(readout, LabelTrie) else 0),
    )


def _readout(adapter: PromptAdapter, backbone: Backbone, limits: RowLimits) -> LabelTrie | LearnedLabels:
    kind = adapter.manifest.readout
    if kind != "words":
        return LearnedLabels(kind, len(adapter.spec.labels), adapter.spec.activation)
    trie = backbone.label_trie(adapter.spec.label_words)
    limits.check_labels(trie)
    return trie


def _label_thresholds(adapter: PromptAdapter) -> tuple[float, ...] | None:
    if not adapter.spec.is_multi_label:
        return None
    return tuple(adapter.manifest.calibration.thresholds(len(adapter.spec.labels)).tolist())


class AdapterCache:
    """Loaded adapters by digest. Beyond a number or a size in bytes, the least recently used are dropped."""

    def __init__(
        self,
        registry: Registry,
        precisions: Precisions,
        *,
        max_adapters: int,
        max_bytes: int = 1 << 30,
        limits: RowLimits = RowLimits(),
    ) -> None:
        self._registry, self._precisions = registry, precisions
        self._max_adapters, self._max_bytes = max_adapters, max_bytes
        self._limits = limits
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._bytes = 0
        self._loading: dict[str, asyncio.Future[LoadedAdapter]] = {}
        self._threads = ThreadPoolExecutor(_MAX_LOADS, thread_name_prefix="superpos-load")

    def __len__(self) -> int:
        return len(self._loaded)

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded or digest in self._loading

    def loaded(self, digest: str) -> LoadedAdapter | None:
        """Return the adapter if it is in memory."""
        adapter = self._loaded.get(digest)
        if adapter is not None:
            self._loaded.move_to_end(digest)
        return adapter

    async def get(self, digest: str) -> LoadedAdapter:
        """Return the adapter, from memory or from the registry.

        Raises:
            NotFound: the registry no longer has it
            BackboneMismatch: it was trained for another backbone
            PrecisionNotValidated: the server's precision does not suit it, and there is no memory for float32 weights
            OverServerLimit: its texts or labels exceed a limit that the operator set
            RegistryUnavailable: it is not in memory and the registry cannot be read
        """
        adapter = self.loaded(digest)
        if adapter is not None:
            return adapter
        loading = self._loading.get(digest)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = self._loading[digest] = loop.run_in_executor(
                self._threads, copy_context().run, self._load, digest
            )
            loading.add_done_callback(lambda task: self._keep(digest, task))
        # a caller who hangs up must not end the load that others wait for
        return await asyncio.shield(loading)

    def add(self, adapter: LoadedAdapter) -> None:
        """Add an adapter that is already loaded."""
        known = self._loaded.pop(adapter.digest, None)
        self._loaded[adapter.digest] = adapter
        self._bytes += adapter.num_bytes - (known.num_bytes if known else 0)
        while len(self._loaded) > 1 and (len(self._loaded) > self._max_adapters or self._bytes > self._max_bytes):
            _, dropped = self._loaded.popitem(last=False)
            self._bytes -= dropped.num_bytes

    def parse(self, files: Mapping[str, bytes]) -> LoadedAdapter:
        """Parse an adapter's files and load it; raises as `from_files` and `load_adapter`. Callable from any thread."""
        adapter = from_files(files)
        precisions = self._precisions
        return load_adapter(adapter, precisions.backbone, fp32_for=precisions.fp32_for, limits=self._limits)

    def check_all(self, files: Mapping[str, bytes]) -> tuple[CheckResult, ...]:
        """Run every check on an adapter's files that can be run. Callable from any thread."""
        backbone = self._precisions.backbone
        return check_all(files, fingerprint=backbone.identity.fingerprint, width=backbone.width)

    def _load(self, digest: str) -> LoadedAdapter:
        files: Mapping[str, bytes] = self._registry.get(digest)
        try:
            return self.parse(files)
        except NotValidatedInPrecision as exc:
            raise PrecisionNotValidated(f"adapter {digest} cannot be served in this server's precision: {exc}") from exc
        except RowTooLarge as exc:
            raise OverServerLimit(f"adapter {digest} exceeds a limit of this server: {exc}") from exc
        except InvalidAdapter as exc:
            raise BackboneMismatch(f"adapter {digest} cannot run on this server: {exc}") from exc

    def stop(self) -> None:
        """Start no more loads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep(self, digest: str, task: asyncio.Future[LoadedAdapter]) -> None:
        del self._loading[digest]
        if not task.cancelled() and task.exception() is None:
            self.add(task.result())


_log = structlog.get_logger("service")


class Prefetch:
    """Background loads, a few at a time; failures are logged, and raised for requests that need the adapter."""

    def __init__(self, adapters: AdapterCache, *, concurrency: int = 2, max_waiting: int = 1_024) -> None:
        self._adapters, self._concurrency, self._max_waiting = adapters, concurrency, max_waiting
        self._waiting: dict[str, None] = {}  # digests in order, each once
        self._workers: set[asyncio.Task[None]] = set()

    def on_changes(self, changes: Sequence[Change]) -> None:
        """Load adapters that were published or got an alias; beyond the limit, their first request loads them."""
        for change in changes:
            wanted = change.kind in {"published", "alias_set"} and change.digest not in self._adapters
            if wanted and len(self._waiting) < self._max_waiting:
                self._waiting[change.digest] = None
        for _ in range(min(len(self._waiting), self._concurrency) - len(self._workers)):
            worker = asyncio.create_task(self._work(), name="prefetch", context=Context())  # outside of any request
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def stop(self) -> None:
        """Cancel the loads that have not ended."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._waiting:
                digest = next(iter(self._waiting))
                del self._waiting[digest]
                try:
                    await self._adapters.get(digest)
                except (AdapterError, BackboneError, ServiceError) as exc:
                    _log.info("adapter_not_loaded", adapter=digest, reason=str(exc))
                except Exception:  # noqa: BLE001 - the other adapters are loaded
                    _log.exception("adapter_not_loaded", adapter=digest)
        finally:
            # here, not in a callback: digests that arrive before the callback would count on a worker that has ended
            self._workers.discard(asyncio.current_task())
