"""The server processes: sockets, workers and graceful shutdown."""
