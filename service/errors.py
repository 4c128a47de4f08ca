"""The errors of serving. What each means to an HTTP caller stands in `problems.py` and nowhere else.

ServiceError
├── QueueFull           more work waits than the server takes
│   └── RateLimited     the tenant has asked for as much as it may for now
├── DeadlineExceeded    the caller's time ran out before the answer
├── Unauthenticated     no key, or none that is valid now
├── Forbidden           the key's role does not reach so far
├── NotReady            the model thread is not running, or the server is shutting down
├── InferenceFailed     the model could not answer this row
├── AdapterTripped      the adapter's rows failed again and again: it is refused for a while
├── OutOfMemory         the row does not fit in memory, not even alone
├── ClientDisconnected  the caller hung up
├── BodyTooLarge        more bytes than the route takes
├── MalformedBody       bytes that are not what their headers say
├── UnsupportedMediaType
├── UnsupportedEncoding a content coding that is not read
├── PreconditionFailed  the alias is not in the state that If-Match or If-None-Match asks for
├── Misdirected         the Host header names no host that the server answers for
├── QuotaExceeded       the tenant has stored as much as it may
├── InvalidRequest      well-formed JSON that asks for something impossible
└── BackboneMismatch    the adapter belongs to another backbone than the one served
"""

from typing import Literal, get_args

AdmissionReason = Literal["rows", "tokens", "tenant_rows", "tenant_tokens", "rate", "token_rate", "concurrency"]
"""Whose bound a refused request met: the queue's, its tenant's share of it, or one of its tenant's limits."""
ADMISSION_REASONS: tuple[AdmissionReason, ...] = get_args(AdmissionReason)
AuthenticationReason = Literal["missing", "malformed", "unknown", "expired"]
"""What is wrong with a key: none was shown, it is no key at all, or none that is valid now."""
AUTHENTICATION_REASONS: tuple[AuthenticationReason, ...] = get_args(AuthenticationReason)


class ServiceError(Exception):
    """Anything that the server refuses or fails at."""


class QueueFull(ServiceError):
    """Admission refused the request; the message says by whose limit, the tenant's or the server's."""

    def __init__(self, message: str, *, retry_after_s: int, reason: AdmissionReason = "rows") -> None:
        super().__init__(message)
        self.retry_after_s, self.reason = retry_after_s, reason


class RateLimited(QueueFull):
    """The tenant has asked for as much as it may for now."""


class DeadlineExceeded(ServiceError):
    """The time that the caller gave is over; work not begun is not done."""


class NotReady(ServiceError):
    """No answer can come now."""


class Unauthenticated(ServiceError):
    """The request shows no key that is valid now."""

    def __init__(self, message: str, *, reason: AuthenticationReason = "unknown") -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(ServiceError):
    """The key is valid, and its role does not reach so far."""


class InferenceFailed(ServiceError):
    """The forward of this row raised, or its scores are no numbers."""


class AdapterTripped(ServiceError):
    """The circuit breaker refuses the adapter."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutOfMemory(ServiceError):
    """There was no memory for this row; its adapter is not to blame."""


class QuotaExceeded(ServiceError):
    """What the tenant would have stored passes a limit of it; something must go first."""


class ClientDisconnected(ServiceError):
    """Nobody is there to be answered."""


class BodyTooLarge(ServiceError):
    """The request's body passes the limit of its route."""


class UnsupportedMediaType(ServiceError):
    """The body is of a type that the route does not read."""


class MalformedBody(ServiceError):
    """The body's bytes cannot be read as their headers announce them."""


class UnsupportedEncoding(ServiceError):
    """The body comes in a content coding that the server does not read."""


class PreconditionFailed(ServiceError):
    """What the request's If-Match or If-None-Match asks for does not hold."""


class Misdirected(ServiceError):
    """The request is addressed to a host that is not this server."""


class InvalidRequest(ServiceError):
    """The request is understood and cannot be carried out."""


class BackboneMismatch(ServiceError):
    """The registry holds the adapter, but this server's backbone is another."""
