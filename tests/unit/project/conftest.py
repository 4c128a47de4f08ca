"""The shared fixtures of this folder's tests."""

from support.fixtures.server import serve_module
from support.fixtures.tools import caddy, prometheus, promtool, tls_redis
