"""Tenants: accounts and API keys with their stores, principals, quotas and rate limits."""
