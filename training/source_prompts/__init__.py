"""Libraries of source prompts: reading them, training over all of them, and ranking them as starts of a new task."""
