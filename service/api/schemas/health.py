"""TODO."""

from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel

from adapters.adapter import BackboneRef
from service.engine.self_test import SelfTest


class Live(BaseModel):
    status: Literal["live"] = "live"


class SelfTestBody(BaseModel):
    """What the batch-invariance test at the start found."""

    rows: int
    batches: int
    max_difference: float
    """The largest |Δ log p| of a row between alone and in a batch; null where scores were no numbers."""
    tolerance: float
    bit_identical: bool

    @classmethod
    def of(cls, found: SelfTest | None) -> "SelfTestBody | None":
        if found is None:
            return None
        return cls(**asdict(found), bit_identical=found.bit_identical)


class Startup(BaseModel):
    status: Literal["starting", "started"]
    self_test: SelfTestBody | None


class Ready(BaseModel):
    status: Literal["ready", "not_ready"]
    reason: str | None
    """Why not: `draining`, or what is wrong with the model."""
    last_forward_age_s: float | None
    """Since a forward last gave scores, a caller's or, where none came, the model's own."""
    self_test: SelfTestBody | None
    backbone: BackboneRef
    precision: Literal["fp32", "int8", "bf16"]
    degraded: bool
    """The registry cannot be read: what was known goes on answering."""
    tasks: int
    resident_adapters: int
    tripped_adapters: int
    """Adapters that the circuit breaker refuses now."""
    queued_rows: int
    workers: int
    """Processes behind this port; the rest of this answer is about the one that got the request."""
