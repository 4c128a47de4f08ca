"""The shared fixtures of this folder's tests."""

from support.fixtures.redis import redis_server, start_redis
from support.fixtures.registry import published, registry, store, uploads
