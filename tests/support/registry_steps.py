"""Generated operations on registries, and what they answer."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from adapters import AdapterError, TaskInfo, Traffic, VersionInfo
from adapters.files import from_files
from adapters.registry.archive import TaskRecord
from support.registry import Uploads

AT = datetime(2024, 2, 29, 12, 30, 59, 123456, tzinfo=UTC)
TENANTS, TASKS, ALIASES = ("acme", "zeta"), ("sst2", "trec"), ("production", "canary")
tenants, tasks, aliases = map(st.sampled_from, (TENANTS, TASKS, ALIASES))
numbers, indexes = st.integers(1, 5), st.integers(0, 3)
traffics = st.one_of(
    st.builds(Traffic, canary=numbers, percent=st.sampled_from((0.0, 10, 12.5)), shadow=st.none() | numbers),
    st.builds(Traffic, shadow=st.none() | numbers),
)


def operation(name: str, *arguments: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy:
    """A call of a registry's method, readable where a failing example is printed."""
    return st.tuples(st.just(name), st.tuples(*arguments), st.fixed_dictionaries(options))


publications = operation(
    "publish", tenants, tasks, indexes, aliases=st.none() | st.lists(aliases, max_size=3), actor=st.just("ann")
)
writes = st.one_of(
    publications,
    publications,
    operation(
        "set_alias",
        tenants,
        tasks,
        aliases,
        numbers,
        expected=st.none() | st.integers(0, 5),
        end_canary=st.booleans(),
        actor=st.just("bob"),
    ),
    operation("delete_alias", tenants, tasks, aliases, expected=st.none() | numbers, actor=st.just("cat")),
    operation("set_traffic", tenants, tasks, traffics, expected=st.none() | traffics, actor=st.just("dan")),
    operation("delete", tenants, tasks, numbers, actor=st.just("eve")),
)
restorations = st.one_of(
    operation("restore_version", tenants, tasks, numbers, indexes),
    operation("restore_version", tenants, tasks, numbers, indexes),
    operation("restore_task", tenants, tasks, st.dictionaries(aliases, numbers), traffics, st.integers(1, 7)),
)


def outcome(store: Any, uploads: Uploads, step: tuple[str, tuple[Any, ...], dict[str, Any]]) -> object:
    """What an operation returned, or how it was refused."""
    name, arguments, options = step
    try:
        match name:
            case "publish":
                *key, index = arguments
                done = store.publish(*key, uploads[index], **options)
                return done if isinstance(done, tuple) else (done.version, done.created)
            case "restore_version":
                tenant, task, number, index = arguments
                version = VersionInfo(number, from_files(uploads[index]).digest, AT, "ann")
                return store.restore_version(tenant, task, version, uploads[index])
            case "restore_task":
                tenant, task, pointing, traffic, last = arguments
                return store.restore_task(TaskRecord(TaskInfo(tenant, task, (), pointing, traffic), last))
            case _:
                return getattr(store, name)(*arguments, **options)
    except AdapterError as exc:
        return type(exc), str(exc)
