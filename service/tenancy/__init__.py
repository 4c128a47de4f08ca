"""Tenants, their API keys, and their quotas.

`Accounts` makes the changes and `AccountCache` serves the reads of requests; `Quotas` counts what a tenant uses.
Accounts are stored next to the registry, in SQLite or Redis.
"""
