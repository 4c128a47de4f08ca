"""Parts that benchmarks share: load generators, workloads, processes, reports and plots."""
