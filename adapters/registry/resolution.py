"""What a ref means among a task's versions: the one rule, for registries and for whoever keeps a copy of one."""

from adapters.errors import Conflict, NotFound
from adapters.names import Ref
from adapters.registry.protocol import Resolution, TaskInfo


def resolve_among(task: TaskInfo, ref: Ref) -> Resolution:
    """Find the version that a ref means.

    Raises:
        NotFound: none
        Conflict: a digest prefix that several versions share
    """
    if ref.digest is not None:
        found = [info for info in task.versions if info.digest.startswith(ref.digest)]
    else:
        version = ref.version if ref.alias is None else task.aliases.get(ref.alias)
        found = [info for info in task.versions if info.version == version]
    if not found:
        raise NotFound(f"no {ref}")
    if len(found) > 1:
        raise Conflict(f"{ref} means {len(found)} versions, give more digits")
    return Resolution(task.task, found[0].version, found[0].digest)
