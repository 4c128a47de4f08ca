"""Benchmark of the number of adapters: rates, latencies, memory, cold starts and new versions."""
