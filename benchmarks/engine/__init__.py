"""Benchmark of the forward against other engines, each in its own process."""
