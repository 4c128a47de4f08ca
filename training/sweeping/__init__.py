"""Sweeps: Optuna proposes runs, whole stacks of them train at once, here or on Ray's workers."""
