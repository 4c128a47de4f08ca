"""System: what the server runs, whether it is ready, its main numbers and its settings."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from starlette.responses import Response

from adapters.storage.opening import redact
from service.console.api import ApiProblem
from service.console.page import Page
from service.console.views.route import ViewRoute
from service.settings import Settings

_BYTES = "_bytes"


async def show(page: Page) -> Response:
    """Show the page."""
    try:
        ready = await page.api.get("/healthz/ready")
    except ApiProblem as exc:  # 503 with the same body
        if "status" not in exc.body or "backbone" not in exc.body:
            raise
        ready = dict(exc.body)
    return await page.render("system.html", ready=ready, numbers=_numbers(page), settings=_settings(page))


def _numbers(page: Page) -> list[tuple[str, str]]:
    """Return the main numbers of the process that answers, as /metrics has them."""
    runtime = page.console.runtime
    inference, registry, settings = runtime.inference, runtime.registry, runtime.settings
    monitoring = runtime.monitoring
    return [
        ("Rows in the queue", f"{inference.admission.rows:,} of {settings.max_queue_rows:,}"),
        ("Tokens in the queue", f"{inference.admission.tokens:,} of {settings.max_queue_tokens:,}"),
        ("Adapters in host memory", f"{len(registry.adapters):,}"),
        ("Result cache", f"{inference.result_cache.size_bytes:,} bytes"),
        ("Tasks with enough answers to judge", f"{monitoring.drift.seen.tasks:,}"),
        ("Of these, shifted", f"{monitoring.drift.seen.shifted_tasks:,}"),
        ("Registry read", f"{registry.sync.lag_s:.1f} s ago"),
        ("Change-log position", f"{registry.catalog.position:,}"),
        ("Counters not yet written", f"{len(monitoring.counters):,}"),
    ]


def _settings(page: Page) -> list[Mapping[str, Any]]:
    """Return each setting with its value and whether it was set; secrets are not shown."""
    settings = page.console.runtime.settings
    return [
        {
            "name": f"SUPERPOS_{name.upper()}",
            "value": _shown(name, getattr(settings, name)),
            "is_set": name in settings.model_fields_set,
        }
        for name in Settings.model_fields
    ]


def _shown(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return "set, not shown"
    if name == "registry":
        return redact(str(value))
    if value is None or value in ((), {}):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith(_BYTES) and isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


ROUTES = [ViewRoute("GET", "/system", show, role="operator")]
