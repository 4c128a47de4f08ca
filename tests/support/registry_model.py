"""The registry's rules a second time, as simply as they can be said: what every store is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapters import ABSENT, NO_TRAFFIC, PRODUCTION, Conflict, InvalidTraffic, NotFound, Traffic
from adapters.files import from_files
from adapters.registry.archive import TaskRecord
from adapters.registry.protocol import VersionInfo

Key = tuple[str, str]
Entry = tuple[object, ...]
"""Kind, tenant, task, version, alias, actor, traffic."""


@dataclass
class ModelTask:
    """One task."""

    last: int = 0
    versions: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    traffic: Traffic = NO_TRAFFIC


class RegistryModel:
    """A registry in dictionaries. One thread."""

    def __init__(self) -> None:
        self.tasks: dict[Key, ModelTask] = {}
        self.log: list[Entry] = []

    def publish(
        self, tenant: str, task: str, files: Mapping[str, bytes], *, actor: str, aliases: Sequence[str] | None = None
    ) -> tuple[int, bool]:
        known, digest = self.tasks.setdefault((tenant, task), ModelTask()), from_files(files).digest
        version = next((number for number, held in known.versions.items() if held == digest), None)
        if version is not None:
            for alias in aliases or ():
                self._point((tenant, task), alias, version, actor)
            return version, False
        known.last += 1
        known.versions[known.last] = digest
        self.log.append(("published", tenant, task, known.last, None, actor, None))
        for alias in [PRODUCTION] if aliases is None else aliases:
            self._point((tenant, task), alias, known.last, actor)
        return known.last, True

    def set_alias(
        self,
        tenant: str,
        task: str,
        alias: str,
        version: int,
        *,
        actor: str,
        expected: int | None = None,
        end_canary: bool = False,
    ) -> None:
        known = self._version(tenant, task, version)
        if expected is not None and known.aliases.get(alias, ABSENT) != expected:
            raise Conflict
        self._point((tenant, task), alias, version, actor, end_canary=end_canary)

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        known = self.tasks.get((tenant, task), ModelTask())
        if alias not in known.aliases:
            raise NotFound
        if expected not in (None, known.aliases[alias]):
            raise Conflict
        self.log.append(("alias_deleted", tenant, task, known.aliases.pop(alias), alias, actor, None))

    def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, actor: str, expected: Traffic | None = None
    ) -> None:
        known = self.tasks.get((tenant, task), ModelTask())
        if not known.versions:
            raise NotFound
        if expected not in (None, known.traffic):
            raise Conflict
        for version in traffic.versions:
            self._version(tenant, task, version)
        if known.aliases.get(PRODUCTION) in traffic.versions:
            raise InvalidTraffic
        self._set_traffic((tenant, task), traffic, actor)

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        known = self._version(tenant, task, version)
        if version in known.aliases.values() or version in known.traffic.versions:
            raise Conflict
        del known.versions[version]
        self.log.append(("version_deleted", tenant, task, version, None, actor, None))

    def restore_version(self, tenant: str, task: str, version: VersionInfo, _: Mapping[str, bytes]) -> None:
        known = self.tasks.setdefault((tenant, task), ModelTask())
        if version.version in known.versions or version.digest in known.versions.values():
            raise Conflict
        known.versions[version.version] = version.digest
        known.last = max(known.last, version.version)

    def restore_task(self, record: TaskRecord) -> None:
        known = self.tasks.setdefault((record.info.tenant, record.info.task), ModelTask())
        if not {*record.info.aliases.values(), *record.info.traffic.versions} <= set(known.versions):
            raise NotFound
        known.last = max(known.last, record.last_version)
        known.aliases, known.traffic = dict(record.info.aliases), record.info.traffic

    def _version(self, tenant: str, task: str, version: int) -> ModelTask:
        known = self.tasks.get((tenant, task), ModelTask())
        if version not in known.versions:
            raise NotFound
        return known

    def _point(self, key: Key, alias: str, version: int, actor: str, *, end_canary: bool = False) -> None:
        known = self.tasks[key]
        if known.aliases.get(alias) != version:
            known.aliases[alias] = version
            self.log.append(("alias_set", *key, version, alias, actor, None))
        if alias == PRODUCTION:
            canary, percent, shadow = known.traffic.canary, known.traffic.percent, known.traffic.shadow
            if end_canary or canary == version:
                canary, percent = None, 0.0
            self._set_traffic(key, Traffic(canary, percent, None if shadow == version else shadow), actor)

    def _set_traffic(self, key: Key, traffic: Traffic, actor: str) -> None:
        if traffic != self.tasks[key].traffic:
            self.tasks[key].traffic = traffic
            self.log.append(("traffic_set", *key, 0, None, actor, traffic))
