"""Registries of adapters: versions, aliases, rollouts and the change log, in SQLite, Redis or a folder."""
