"""Fixtures of programs that are no Python packages: fetched if they must be, missed loudly, in CI an error."""

import os
from pathlib import Path

import pytest

from deploy.debian_tools import ToolUnavailable, find


def _tool(name: str) -> Path:
    try:
        return find(name)
    except ToolUnavailable as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{exc}")


@pytest.fixture(scope="session")
def caddy() -> Path:
    """The gateway."""
    return _tool("caddy")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The server that scrapes."""
    return _tool("prometheus")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' checker of metrics, rules and configurations."""
    return _tool("promtool")
