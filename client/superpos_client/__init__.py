"""Client of Superpos, a server of text classifiers: `Client`, and `AsyncClient` with the same methods.

from superpos_client import Client

client = Client("http://localhost:8080")  # or SUPERPOS_URL and SUPERPOS_API_KEY
client.classify("sst2", "a gripping film").label
"""

from superpos_client._async.client import AsyncClient
from superpos_client._sync.client import Client
from superpos_client.answers import Limits, Prediction, Row
from superpos_client.calls import Answer
from superpos_client.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    FieldError,
    Forbidden,
    Invalid,
    InvalidAnswer,
    NotFound,
    PreconditionFailed,
    RateLimited,
    ServerFault,
    SuperposError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from superpos_client.resources import (
    Adapter,
    Alias,
    AuditEntry,
    Change,
    Drift,
    Key,
    Move,
    NewKey,
    Promotion,
    Publication,
    Readiness,
    Shadow,
    Task,
    TaskDetail,
    Tenant,
    Traffic,
    Usage,
    UsageNumbers,
    UsageRow,
    Version,
)
from superpos_client.version import __version__

__all__ = [
    "Adapter",
    "Alias",
    "Answer",
    "AsyncClient",
    "AuditEntry",
    "BadRequest",
    "Change",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Drift",
    "FieldError",
    "Forbidden",
    "Invalid",
    "InvalidAnswer",
    "Key",
    "Limits",
    "Move",
    "NewKey",
    "NotFound",
    "PreconditionFailed",
    "Prediction",
    "Promotion",
    "Publication",
    "RateLimited",
    "Readiness",
    "Row",
    "ServerFault",
    "Shadow",
    "SuperposError",
    "Task",
    "TaskDetail",
    "Tenant",
    "Traffic",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Usage",
    "UsageNumbers",
    "UsageRow",
    "Version",
    "__version__",
]
