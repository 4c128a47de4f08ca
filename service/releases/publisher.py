"""Publishes and deletes versions on a running server."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from adapters import PRODUCTION, InvalidAdapter, Publication, Ref, Registry
from adapters.errors import NotValidatedInPrecision, RowTooLarge
from adapters.files import CheckResult, check_stated_backbone
from adapters.names import check_publication
from adapters.printable import check_texts
from backbone import Frame, InvalidLabels
from backbone.text import min_field_tokens
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.errors import InferenceFailed
from service.inference.classifier import Classifier
from service.releases.preconditions import Preconditions
from service.releases.storage_quota import StorageQuota
from service.releases.writer import RegistryWriter

_SMOKE_TIMEOUT_S = 30.0
_SMOKE = "smoke forward"


class RefusedUpload(InvalidAdapter):
    """An upload that fails a check, with the results of all checks."""

    def __init__(self, first: InvalidAdapter | InvalidLabels, checks: Sequence[CheckResult]) -> None:
        super().__init__(first.check, first.value, first.expected)
        self.checks = checks
        """Apart from the trial classification, which is the last."""

    @property
    def is_of_forward(self) -> bool:
        """Whether the trial classification failed, after all other checks."""
        return self.check == _SMOKE


class Publisher:
    """Takes untrusted files to a published version: parse, quota, a smoke forward, and only then the registry."""

    def __init__(
        self, writer: RegistryWriter, adapters: AdapterCache, classifier: Classifier, quota: StorageQuota
    ) -> None:
        self._writer, self._adapters, self._classifier, self._quota = writer, adapters, classifier, quota

    async def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        aliases: Sequence[str] | None,
        expected: str | None,
        actor: str,
    ) -> Publication:
        """Check an upload, store it, and serve it here at once. The files are parsed once.

        Args:
            expected: the digest that the files must have, if the uploader knows it

        Raises:
            InvalidName, InvalidAdapter, backbone.InvalidLabels: the upload is invalid; the error names the check
            QuotaExceeded: the tenant's storage limit is reached
            RegistryUnavailable: the registry cannot be written, or has lost what it held
        """
        check_publication(tenant, task, aliases)
        self._quota.check_aliases(tenant, task, [PRODUCTION] if aliases is None else aliases)
        try:
            adapter = await asyncio.to_thread(parse_upload, self._adapters, files)
        except (InvalidAdapter, InvalidLabels) as exc:
            if isinstance(exc, NotValidatedInPrecision | RowTooLarge):
                raise
            raise RefusedUpload(exc, await asyncio.to_thread(_all_checks, self._adapters, files, exc)) from exc
        digest = adapter.digest
        if expected is not None and digest != expected:
            raise InvalidAdapter("digest", digest, expected)
        async with self._quota.reserve(tenant, task, digest, files):
            try:
                await self._classifier.try_out(tenant, adapter, timeout_s=_SMOKE_TIMEOUT_S)
            except InferenceFailed as exc:
                first = InvalidAdapter(_SMOKE, str(exc), "finite label scores")
                raise RefusedUpload(first, self._adapters.check_all(files)) from exc
            self._adapters.add(adapter)  # before it is announced, which would load it again
            return await self._writer.write(
                lambda registry: registry.publish(tenant, task, files, digest=digest, actor=actor, aliases=aliases)
            )

    async def delete(self, tenant: str, task: str, version: int, *, conditions: Preconditions, actor: str) -> None:
        """Delete a version.

        Args:
            conditions: preconditions on the version's digest, which never changes

        Raises:
            NotFound: no such version
            Conflict: an alias or the traffic uses it
            PreconditionFailed: the conditions do not hold
            RegistryUnavailable
        """

        def change(registry: Registry) -> None:
            if conditions:
                current = registry.resolve(tenant, Ref(task, version=version))
                conditions.check(f'"{current.digest}"')
            registry.delete(tenant, task, version, actor=actor)

        await self._writer.write(change)


def parse_upload(adapters: AdapterCache, files: Mapping[str, bytes]) -> LoadedAdapter:
    """Load an adapter from untrusted files.

    Raises:
        InvalidAdapter, backbone.InvalidLabels: a check failed, or the adapter does not fit the server
    """
    adapter = adapters.parse(files)
    check_stated_backbone(files)
    check_texts(files)
    _check_room(adapter)
    return adapter


def _all_checks(
    adapters: AdapterCache, files: Mapping[str, bytes], first: InvalidAdapter | InvalidLabels
) -> Sequence[CheckResult]:
    """Return the results of all checks; a task that the server cannot run is a fault of the manifest."""
    found = adapters.check_all(files)
    if any(each.faults for each in found):
        return found
    fault = InvalidAdapter(first.check, first.value, first.expected)
    return [replace(each, faults=(fault,)) if each.name == "manifest" else each for each in found]


def _check_room(adapter: LoadedAdapter) -> None:
    """Refuse a task whose template leaves too little of its limit for the fields: no long text could be answered."""
    frame = adapter.frame
    if (needed := min_task_tokens(frame, adapter.max_tokens)) > adapter.max_tokens:
        expected = f"at least {needed}: the template has {frame.num_tokens} tokens and {len(frame.placeholders)} fields"
        raise InvalidAdapter("superpos.json: task.max_tokens", adapter.max_tokens, expected)


def min_task_tokens(frame: Frame, max_tokens: int) -> int:
    """Return how many tokens a template and the shortest form of its fields take under a limit."""
    return frame.num_tokens + len(frame.placeholders) * min_field_tokens(max_tokens) + 1
