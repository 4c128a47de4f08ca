"""The JSON of `/` and `/healthz`."""

from typing import Literal

from adapters.adapter import BackboneRef
from service.api.schemas.types import Schema


class Index(Schema):
    """Where everything else is."""

    name: Literal["superpos"] = "superpos"
    version: str
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    health: str = "/healthz/ready"
    metrics: str = "/metrics"
    tasks: str = "/tasks"
    console: str | None = None
    """The page for people, where the server has one."""


class Live(Schema):
    status: Literal["live"] = "live"


class SelfTestBody(Schema):
    """Result of the batch-invariance test at startup."""

    rows: int
    batches: int
    max_difference: float
    """Largest |Δ log p| of a row between running alone and in a batch; null if a score was not finite."""
    tolerance: float
    bit_identical: bool


class Startup(Schema):
    status: Literal["starting", "started"]
    self_test: SelfTestBody | None
    """Null until the test has run."""


class Ready(Schema):
    status: Literal["ready", "not_ready"]
    reason: str | None
    """Why the worker is not ready: `draining`, the fault of the model, or that keys cannot be verified."""
    last_forward_age_s: float | None
    """Seconds since a forward pass last returned scores, for a request or a health probe."""
    self_test: SelfTestBody | None
    backbone: BackboneRef
    precision: Literal["fp32", "int8", "bf16"]
    """Precision of the answers of versions that it suits."""
    precisions: tuple[Literal["fp32", "int8", "bf16"], ...]
    """Precisions whose weights are in memory; fp32 is one of them once a version needs it."""
    degraded: bool
    """The registry cannot be read, or tenants and keys cannot: requests are served from the last known state."""
    read_only: str | None
    """Why the registry cannot be written, as of the last attempt; then changes get 503, and requests are served."""
    tasks: int
    resident_adapters: int
    tripped_adapters: int
    """Adapters that the circuit breaker rejects at the moment."""
    queued_rows: int
    workers: int
    """Processes behind this port. All other fields describe the worker that served this request."""
