"""Adapters in host memory, ready for the model thread: parsed, checked against the backbone, their trie built.

`AdapterCache` belongs to the event loop. Each digest is loaded once however many ask for it, and nobody waits
behind another's load.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters import BackboneRef, Calibration, PromptAdapter, Registry, TaskSpec
from adapters.adapter import Provenance
from adapters.errors import InvalidAdapter
from adapters.files import from_files
from backbone import Backbone, LabelTrie
from service.errors import BackboneMismatch


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """What one version needs to be served."""

    digest: str
    prompt: NDArray[np.float32]  # [P, H]
    spec: TaskSpec
    trie: LabelTrie
    calibration: Calibration
    backbone: BackboneRef
    provenance: Provenance


def load_adapter(adapter: PromptAdapter, backbone: Backbone) -> LoadedAdapter:
    """Check an adapter against the backbone and build its trie.

    Raises:
        InvalidAdapter: another width or fingerprint
        backbone.InvalidLabels: label words that the tokenizer cannot tell apart
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    return LoadedAdapter(
        digest=adapter.digest,
        prompt=adapter.prompt,
        spec=adapter.spec,
        trie=backbone.label_trie(adapter.spec.label_words),
        calibration=adapter.manifest.calibration,
        backbone=adapter.manifest.backbone,
        provenance=adapter.manifest.provenance,
    )


class AdapterCache:
    """Loaded adapters by digest, the least recently asked for dropped past a limit."""

    def __init__(self, registry: Registry, backbone: Backbone, *, max_adapters: int) -> None:
        self._registry, self._backbone, self._max_adapters = registry, backbone, max_adapters
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedAdapter]] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    async def get(self, digest: str) -> LoadedAdapter:
        """The adapter, from memory or from the registry.

        Raises:
            NotFound: the registry has it no more
            BackboneMismatch: it was trained for another backbone
            RegistryUnavailable: it is not in memory and the registry cannot be read
        """
        adapter = self._loaded.get(digest)
        if adapter is not None:
            self._loaded.move_to_end(digest)
            return adapter
        loading = self._loading.get(digest)
        if loading is None:
            loading = self._loading[digest] = asyncio.create_task(asyncio.to_thread(self._load, digest))
            loading.add_done_callback(lambda task: self._keep(digest, task))
        # a caller who hangs up must not end the load that others wait for
        return await asyncio.shield(loading)

    def add(self, adapter: LoadedAdapter) -> None:
        """Keep an adapter that somebody has loaded already."""
        self._loaded[adapter.digest] = adapter
        self._loaded.move_to_end(adapter.digest)
        while len(self._loaded) > self._max_adapters:
            self._loaded.popitem(last=False)

    def _load(self, digest: str) -> LoadedAdapter:
        files: Mapping[str, bytes] = self._registry.get(digest)
        try:
            return load_adapter(from_files(files), self._backbone)
        except InvalidAdapter as exc:
            raise BackboneMismatch(f"adapter {digest} cannot run on this server: {exc}") from exc

    def _keep(self, digest: str, task: asyncio.Task[LoadedAdapter]) -> None:
        del self._loading[digest]
        if not task.cancelled() and task.exception() is None:
            self.add(task.result())
