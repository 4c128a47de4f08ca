"""Access to adapters, tenants and keys, through a running server or directly in a registry."""
