"""Benchmarks of a server over HTTP, against the engine alone and against peers, and of fairness."""
