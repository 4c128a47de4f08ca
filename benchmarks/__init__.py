"""Longer runs than a test may take: acceptance on real rows, benchmarks, and the training of the bundled adapters."""
