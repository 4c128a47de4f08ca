"""The shared fixtures of this folder's tests."""

from support.fixtures.redis import redis_server, start_redis
from support.fixtures.registry import place, published, registry, store, uploads
from support.fixtures.server import (
    model_threads_end,
    quiet_json_logs,
    serve,
    serve_module,
    server,
    shared_server,
    still_answers,
)
from support.fixtures.tools import caddy, prometheus, promtool
from support.fixtures.training import finished, task, untouched
