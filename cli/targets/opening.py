"""Opens the location that a command was given: a server by its address, or a registry."""

from pathlib import Path

from adapters.registry.opening import open_registry
from cli.console import CommandError
from cli.targets.registry import DirectRegistry
from cli.targets.server import Server
from cli.targets.target import Target


def is_address(location: str) -> bool:
    """Return whether a location is a server's address."""
    return location.startswith(("http://", "https://"))


def require_registry(location: str) -> None:
    """Refuse the path of a registry file that does not exist."""
    if "://" not in location and not Path(location).is_file():
        raise CommandError(f"registry {location}: no such file; 'superpos serve --registry {location}' creates it")


def open_target(location: str, key: str | None = None, *, create: bool = False) -> Target:
    """Open a server by its http address, or a registry by its file or Redis URL.

    Args:
        location: the address, path or URL
        key: API key, for a server only
        create: whether to create a registry file that does not exist
    """
    if is_address(location):
        return Server(location, key)
    if not create:
        require_registry(location)
    return DirectRegistry(open_registry(location))
