"""Targets of a command: a running server, or a registry without one."""
