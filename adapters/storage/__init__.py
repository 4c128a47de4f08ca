"""Where registries, accounts and counters are stored: one SQLite file, or one Redis server.

Only `open_storage` (in `opening.py`) reads the text that names a location. Everything kept at a location is built from
the one `Storage` that it returns.
"""
