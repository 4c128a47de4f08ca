"""The shared fixtures of this folder's tests."""

from support.fixtures.redis import redis_server, start_redis
from support.fixtures.registry import place, published, registry, store, uploads
from support.fixtures.server import (
    logged,
    model_threads_end,
    quiet_json_logs,
    serve,
    serve_module,
    server,
    shared_server,
    still_answers,
)
from support.fixtures.tools import tls_redis
from support.fixtures.training import finished, task, untouched
