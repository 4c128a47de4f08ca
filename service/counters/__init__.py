"""Durable counters that replicas add to: stores in SQLite and Redis, and the buffer of each process."""
