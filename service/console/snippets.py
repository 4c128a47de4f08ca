"""Requests as code to copy: for curl, and for the Python client."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any


def as_curl(requests: Sequence[Mapping[str, Any]], *, base_url: str, has_keys: bool) -> str:
    """Return commands for a POSIX shell that send the same requests."""
    key = ' \\\n  -H "Authorization: Bearer $SUPERPOS_API_KEY"' if has_keys else ""
    return "\n".join(
        f"curl -s {base_url}/classify{key} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(_stated(request), ensure_ascii=False))}"
        for request in requests
    )


def as_python(requests: Sequence[Mapping[str, Any]], *, base_url: str, has_keys: bool) -> str:
    """Return a program for the Python client that asks the same."""
    key = "  # the key: SUPERPOS_API_KEY" if has_keys else ""
    calls = "\n".join(
        f"print(client.classify_tasks({request['tasks']!r}, {pformat(request['inputs'][0])}{_option(request)}))"
        for request in requests
    )
    return f"from superpos_client import Client\n\nclient = Client({base_url!r}){key}\n{calls}"


def _stated(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in request.items() if value is not None and (name, value) != ("truncate", "error")
    }


def _option(request: Mapping[str, Any]) -> str:
    return "" if request["truncate"] == "error" else f", truncate={request['truncate']!r}"
