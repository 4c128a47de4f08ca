"""Adapters and their registry: task, prompt, files, digest, versions. Needs neither torch nor the server.

PyPI has an unrelated package of this name (AdapterHub); `SUPERPOS` identifies ours.
"""

from adapters.adapter import BackboneRef, Manifest, PromptAdapter, Provenance
from adapters.calibration import Calibration
from adapters.errors import (
    AdapterError,
    Conflict,
    InvalidAdapter,
    InvalidName,
    InvalidRow,
    InvalidTask,
    InvalidTraffic,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    PromotionRefused,
    RegistryError,
    RegistryReadOnly,
    RegistryUnavailable,
)
from adapters.names import DEFAULT_TENANT, PRODUCTION, Ref
from adapters.registry.protocol import (
    ABSENT,
    NO_TRAFFIC,
    Change,
    Publication,
    Registry,
    Resolution,
    TaskInfo,
    Traffic,
    VersionInfo,
)
from adapters.task import Label, TaskSpec

SUPERPOS = True

__all__ = [
    "ABSENT",
    "DEFAULT_TENANT",
    "NO_TRAFFIC",
    "PRODUCTION",
    "SUPERPOS",
    "AdapterError",
    "BackboneRef",
    "Calibration",
    "Change",
    "Conflict",
    "InvalidAdapter",
    "InvalidName",
    "InvalidRow",
    "InvalidTask",
    "InvalidTraffic",
    "Label",
    "LimitReached",
    "Manifest",
    "NotFound",
    "OutcomeUnknown",
    "PromotionRefused",
    "PromptAdapter",
    "Provenance",
    "Publication",
    "Ref",
    "Registry",
    "RegistryError",
    "RegistryReadOnly",
    "RegistryUnavailable",
    "Resolution",
    "TaskInfo",
    "TaskSpec",
    "Traffic",
    "VersionInfo",
]
