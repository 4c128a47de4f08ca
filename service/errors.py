"""Errors of serving. `service/api/problems.py` alone maps them to HTTP.

ServiceError
├── QueueFull           the queue is full
│   └── RateLimited     the tenant's rate limit is reached
├── DeadlineExceeded    the request's deadline has passed
├── Unauthenticated     the key is missing or invalid
├── AccountsOutdated    keys cannot be verified: their store has been unreachable for too long
├── Forbidden           the key's role does not permit the request
├── NotReady            the model thread is not running, or the server is shutting down
├── InferenceFailed     the model could not answer this row
├── AdapterTripped      the adapter's rows failed repeatedly: it is refused for a while
├── SearchExhausted     the search for a row's best labels reached its budget: the engine scores all of them
├── OutOfMemory         the row does not fit in memory, even alone
├── ClientDisconnected  the caller closed the connection
├── BodyTooLarge        the body exceeds the route's limit
├── BodyTimeout         the body did not arrive in time
├── MalformedBody       the body contradicts its headers
├── UnsupportedMediaType
├── UnsupportedEncoding the content coding is not supported
├── PreconditionFailed  the alias does not match If-Match or If-None-Match
├── Misdirected         the server does not serve the Host header's name
├── QuotaExceeded       the tenant's storage quota is reached
├── RetentionOff        the tenant keeps no texts, so that there is no feedback
├── InvalidRequest      well-formed JSON with impossible content
├── BackboneMismatch    the adapter belongs to another backbone than the one served
└── PrecisionNotValidated the server's precision does not suit the adapter, and float32 weights do not fit
"""

from typing import Literal, get_args

AdmissionReason = Literal[
    "rows", "tokens", "tenant_rows", "tenant_tokens", "rate", "token_rate", "concurrency", "body_bytes"
]
"""Limit that a refused request reached: the queue's, its tenant's share of it, or one of its tenant's limits."""
ADMISSION_REASONS: tuple[AdmissionReason, ...] = get_args(AdmissionReason)
AuthenticationReason = Literal["missing", "malformed", "unknown", "expired"]
"""Fault of a key: missing, malformed, or not valid now."""
AUTHENTICATION_REASONS: tuple[AuthenticationReason, ...] = get_args(AuthenticationReason)


class ServiceError(Exception):
    """Base of all errors of serving."""


class QueueFull(ServiceError):
    """Admission refused the request; the message says whether the tenant's or the server's limit was reached."""

    def __init__(self, message: str, *, retry_after_s: int, reason: AdmissionReason = "rows") -> None:
        super().__init__(message)
        self.retry_after_s, self.reason = retry_after_s, reason


class RateLimited(QueueFull):
    """One of the tenant's rate limits is reached."""


class DeadlineExceeded(ServiceError):
    """The time that the caller gave is over; work not begun is not done."""


class NotReady(ServiceError):
    """No answer can come now."""


class Unauthenticated(ServiceError):
    """The request has no valid key; `key_id` is the id of the key that it names, if that key exists."""

    def __init__(self, message: str, *, reason: AuthenticationReason = "unknown", key_id: str | None = None) -> None:
        super().__init__(message)
        self.reason, self.key_id = reason, key_id


class AccountsOutdated(ServiceError):
    """Keys cannot be verified: the copy of tenants and keys in memory is too old."""


class Forbidden(ServiceError):
    """The key is valid, and its role does not reach so far."""


class InferenceFailed(ServiceError):
    """The forward of this row failed, or its scores are not finite."""


class AdapterTripped(ServiceError):
    """The circuit breaker refuses the adapter."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SearchExhausted(ServiceError):
    """The best labels of a row take more nodes than it was charged for; stays inside the engine."""


class OutOfMemory(ServiceError):
    """There was no memory for this row; its adapter is not to blame."""


class QuotaExceeded(ServiceError):
    """The upload would exceed one of the tenant's storage quotas; delete something first."""


class RetentionOff(ServiceError):
    """The tenant has not opted in to keeping texts."""


class ClientDisconnected(ServiceError):
    """The caller closed the connection."""


class BodyTooLarge(ServiceError):
    """The request body exceeds the route's limit."""


class BodyTimeout(ServiceError):
    """The request body did not arrive in time."""


class UnsupportedMediaType(ServiceError):
    """The route does not accept the body's media type."""


class MalformedRequest(ServiceError):
    """The request's target or length is ambiguous: a proxy may have read another request."""


class MalformedBody(ServiceError):
    """The body contradicts its headers."""


class UnsupportedEncoding(ServiceError):
    """The body's content coding is not supported."""


class PreconditionFailed(ServiceError):
    """The request's If-Match or If-None-Match does not hold."""


class Misdirected(ServiceError):
    """The Host header names a host that this server does not serve."""


class InvalidRequest(ServiceError):
    """The request is well-formed but cannot be carried out."""


class BackboneMismatch(ServiceError):
    """The adapter was trained for another backbone than the one served."""


class PrecisionNotValidated(ServiceError):
    """The server's precision does not suit the adapter, and there is no memory for float32 weights."""


class OverServerLimit(ServiceError):
    """The task's `max_tokens` or its label trie exceeds a limit of the server."""
