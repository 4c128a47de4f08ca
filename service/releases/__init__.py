"""Writes to the registry: publishing, aliases, rollouts. All of them pass through one `RegistryWriter`."""
