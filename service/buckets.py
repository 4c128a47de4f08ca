"""The buckets that histograms share: one set for times of whole requests, one for their stages."""

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STAGE_BUCKETS = (0.0001, 0.0005, 0.001, 0.002, *LATENCY_BUCKETS)
