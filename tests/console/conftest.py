"""The shared fixtures of this folder's tests."""

from support.fixtures.console import people, server
from support.fixtures.redis import redis_server, start_redis
from support.fixtures.server import model_threads_end, quiet_json_logs, serve, serve_module
from support.report import chromium
