"""The shared fixtures of this folder's tests."""

from support.fixtures.server import model_threads_end, quiet_json_logs, serve_module, shared_server
