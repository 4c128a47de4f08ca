"""What every place checks of a version that a copy brings."""

from collections.abc import Mapping

from adapters.errors import InvalidAdapter
from adapters.files import from_files
from adapters.names import check_name
from adapters.registry import VersionInfo


def check_restored(tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
    """Refuse what a publication would have refused, and files that are not the version's.

    Raises:
        InvalidName: the tenant's or task's
        InvalidAdapter: the files fail a check, or are another adapter's
    """
    check_name("tenant", tenant)
    check_name("task", task)
    digest = from_files(files).digest
    if digest != version.digest:
        raise InvalidAdapter(f"digest of {task}@{version.version}", digest, version.digest)
