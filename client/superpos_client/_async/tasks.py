"""`client.tasks`: tasks, versions, aliases, releases and their history."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from superpos_client import calls
from superpos_client._async.transport import AsyncTransport
from superpos_client.adapter_files import read_adapter, write_adapter
from superpos_client.jobs import Job, LabelledRow
from superpos_client.resources import (
    Adapter,
    Alias,
    Change,
    Move,
    Promotion,
    Publication,
    Task,
    TaskDetail,
    TaskPage,
    Traffic,
    Version,
)

PRODUCTION = "production"
"""The alias that a bare task name means."""


class AsyncTasks:
    """Tasks of the key's tenant.

    Writes take `if_match`, the `etag` of what was read: they fail with `PreconditionFailed` if it was changed since.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> Sequence[Task]:
        """Return all tasks with their versions, aliases and traffic, in the order of their names."""
        found: list[Task] = []
        page = await self.page(limit=calls.PAGE)
        while page.cursor is not None:
            found += page.tasks
            page = await self.page(cursor=page.cursor, limit=calls.PAGE)
        return [*found, *page.tasks]

    async def page(self, *, cursor: str | None = None, limit: int = 100) -> TaskPage:
        """Return a part of the tasks, and the number of all of them.

        Args:
            cursor: of the part before
            limit: maximum number of tasks, up to 1,000
        """
        return await self._transport.send(calls.tasks(cursor, limit))

    async def get(self, task: str) -> TaskDetail:
        """Return a task with its production version's card, drift and shadows (`NotFound`)."""
        return await self._transport.send(calls.task(task))

    async def versions(self, task: str) -> Sequence[Version]:
        """Return a task's versions, the oldest first (`NotFound`)."""
        return (await self.get(task)).versions

    async def adapter(self, task: str, version: int) -> Adapter:
        """Return what a version is: template, labels, backbone, calibration, and the metrics on its card."""
        return await self._transport.send(calls.adapter(task, version))

    async def files(self, task: str, version: int) -> Sequence[str]:
        """Return the names of a version's files."""
        return await self._transport.send(calls.files(task, version))

    async def file(self, task: str, version: int, name: str) -> bytes:
        """Return one file of a version."""
        return await self._transport.send(calls.file(task, version, name))

    async def download(self, task: str, version: int, folder: str | Path) -> Path:
        """Write a version as a PEFT folder, and return it (`FileExistsError` if the folder is not empty)."""
        names = await self.files(task, version)
        return write_adapter(Path(folder), {name: await self.file(task, version, name) for name in names})

    async def publish(
        self,
        task: str,
        source: str | Path | Mapping[str, bytes],
        *,
        aliases: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> Publication:
        """Publish an adapter as the next version of a task, unless the task has it already.

        Args:
            task: a new name makes a task
            source: the folder of an adapter or of its run, a `.zip` or `.tar` of one, or the files by name
            aliases: names to point at the version; by default `production`, an empty list moves none
            digest: refuse the upload unless the adapter has this digest

        Raises:
            ValueError: the source has no adapter
            OSError: it cannot be read
            Invalid: the server refuses the adapter; `problem` has `check`, `value` and `expected`
        """
        if isinstance(aliases, str):
            raise TypeError(f"aliases is {aliases!r}, expected a list of names")
        if isinstance(source, Mapping):
            files = dict(source)
        else:
            files = read_adapter(Path(source), max_bytes=(await self._transport.limits()).max_upload_bytes)
        return await self._transport.send(calls.publish(task, files, aliases, digest))

    async def delete_version(self, task: str, version: int, *, if_match: str | None = None) -> None:
        """Delete a version that no alias, canary or shadow uses; `if_match` is its digest in double quotes."""
        await self._transport.send(calls.delete_version(task, version, if_match))

    async def alias(self, task: str, alias: str = PRODUCTION) -> Alias:
        """Return an alias, with the `etag` for a write."""
        return await self._transport.send(calls.alias(task, alias))

    async def set_alias(
        self,
        task: str,
        alias: str,
        version: int,
        *,
        expected: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Alias:
        """Point an alias at a version.

        Args:
            task: the task
            alias: the alias; it may be new
            version: where it shall point
            expected: the version that it must point at now (`Conflict`)
            if_match: the tag that it must have (`PreconditionFailed`)
            if_none_match: `*` for an alias that must be new (`PreconditionFailed`)
        """
        call = calls.set_alias(task, alias, version, expected=expected, if_match=if_match, if_none_match=if_none_match)
        return await self._transport.send(call)

    async def delete_alias(self, task: str, alias: str, *, if_match: str | None = None) -> None:
        """Delete an alias."""
        await self._transport.send(calls.delete_alias(task, alias, if_match))

    async def traffic(self, task: str) -> Traffic:
        """Return a task's canary and shadow, with the `etag` for a write."""
        return await self._transport.send(calls.traffic(task))

    async def set_traffic(
        self,
        task: str,
        *,
        canary: int | None = None,
        percent: float = 0.0,
        shadow: int | None = None,
        if_match: str | None = None,
    ) -> Traffic:
        """Send a share of the bare name's requests to a canary, and all of its rows to a shadow too.

        What is not given is turned off.
        """
        call = calls.set_traffic(task, canary=canary, percent=percent, shadow=shadow, if_match=if_match)
        return await self._transport.send(call)

    async def end_traffic(self, task: str, *, if_match: str | None = None) -> None:
        """End canary and shadow: only production answers."""
        await self._transport.send(calls.end_traffic(task, if_match))

    async def roll_back(
        self, task: str, alias: str = PRODUCTION, *, expected: int | None = None, if_match: str | None = None
    ) -> Move:
        """Return an alias to the version that it pointed at before; of production, this ends a canary too.

        Args:
            task: the task
            alias: the alias
            expected: the version that it must point at now (`Conflict`); with it, a repetition is safe
            if_match: the tag that it must have (`PreconditionFailed`)
        """
        return await self._transport.send(calls.roll_back(task, alias, expected=expected, if_match=if_match))

    async def promote(
        self,
        task: str,
        version: int,
        *,
        metric: str | None = None,
        force: bool = False,
        corrections: bool = False,
        expected: int | None = None,
        if_match: str | None = None,
    ) -> Promotion:
        """Put a version into production if it is not worse on the same rows.

        Args:
            task: the task
            version: the version
            metric: the metric of the cards to compare; by default the one that production was selected by
            force: promote without comparing metrics
            corrections: also require that it answers the task's corrections better than production
            expected: the version that production must be now (`Conflict`)
            if_match: the tag that production must have (`PreconditionFailed`)

        Raises:
            Conflict: the version is worse, or its card names no comparable metric (`code` is `promotion_refused`)
        """
        call = calls.promote(
            task,
            version,
            metric=metric,
            force=force,
            corrections=corrections,
            expected=expected,
            if_match=if_match,
        )
        return await self._transport.send(call)

    async def train(
        self,
        task: str,
        rows: Iterable[LabelledRow] = (),
        *,
        validation: Iterable[LabelledRow] = (),
        definition: Mapping[str, object] | None = None,
        examples: Mapping[str, Sequence[str]] | None = None,
        corrections_since: int | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Job:
        """Ask for a training, which a trainer of the server's operator carries out; `client.jobs` follows it.

        The result is published as a version that no alias points at: `promote` or `set_alias` puts it into production.

        Args:
            task: a task that has a version, or a new one
            rows: pairs of a text, or the text of each field, and its label
            validation: rows to measure on; by default some of the others are held out
            definition: what a new task is: `template` and `labels`, and what else a task file has but its rows
            examples: instead of rows: 8 to 20 texts of each label, to which a head is fitted in seconds
            corrections_since: also train on the corrections since this version was published; 0 for all of them
            arguments: such as `method`, `epochs` and `lr`, as the options of `superpos train`

        Raises:
            Invalid: the task, a row or an argument is invalid
            NotFound: the task has no version, and there is no definition
            Conflict: a limit of the tenant (`code` is `quota_exceeded`), or it keeps no texts (`retention_off`)
        """
        call = calls.train(
            task,
            rows=rows,
            validation=validation,
            definition=definition,
            examples=examples,
            corrections_since=corrections_since,
            arguments=arguments or {},
        )
        return await self._transport.send(call)

    async def history(self, task: str, *, since: int = 0) -> AsyncIterator[Change]:
        """Yield who changed what and when, oldest first, after the position `since`."""
        while True:
            page = await self._transport.send(calls.history(task, since))
            for change in page.entries:
                yield change
            if page.complete:
                return
            since = page.position
