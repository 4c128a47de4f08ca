"""Meaning of Redis' errors: whether the next attempt may succeed, and whether a refused write had no effect."""

import re
import ssl

import redis
from redis.exceptions import AuthorizationError, ReadOnlyError, ResponseError

_TRANSIENT = (redis.ConnectionError, redis.TimeoutError, OSError)
REFUSED = (redis.AuthenticationError, AuthorizationError)
"""The user or password is wrong, or lacks a right."""
_REFUSED_WRITE = re.compile(r"\b(READONLY|NOREPLICAS|MISCONF)\b")
"""Errors of a replica, of a master with too few replicas, and of one that cannot write its disk. Redis 6 has the code
inside the message if a script met it."""


def is_transient(error: BaseException | None) -> bool:
    """Return whether the next attempt may succeed without a change of the URL, the certificates or the server."""
    return isinstance(error, _TRANSIENT) and not isinstance(error, REFUSED) and not is_about_certificates(error)


def is_about_certificates(error: BaseException | None) -> bool:
    """Return whether one side did not accept the other's certificate; redis-py wraps the error of OpenSSL."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_refused_write(error: BaseException) -> bool:
    """Return whether Redis refused a write before it had any effect, though it can be read.

    A connection to a master that Sentinel named turns the refusal of a former master into a `ConnectionError`.
    """
    if isinstance(error, redis.ConnectionError):
        return isinstance(error.__context__, ReadOnlyError)
    if not isinstance(error, ResponseError):
        return False
    return isinstance(error, ReadOnlyError) or _REFUSED_WRITE.search(str(error)) is not None
