"""The registry of adapters: versions, aliases, traffic and the change log, stored in SQLite or Redis.

`Registry` (in `protocol.py`) is the contract, and `open_registry` (in `opening.py`) opens an implementation.
"""
