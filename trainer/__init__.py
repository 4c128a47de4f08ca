"""The trainer: takes training jobs from the shared storage, trains them, and publishes their results."""
