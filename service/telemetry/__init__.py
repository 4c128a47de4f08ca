"""Metrics, traces, logs, and the per-request record that they read. It observes; it decides nothing."""
