"""Read side of the registry: the catalog of tasks, kept in sync by the change log, loaded adapters, and routing."""
