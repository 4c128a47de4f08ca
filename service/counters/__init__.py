"""Durable counters of usage, drift and shadow answers: a buffer per process, and one store that all replicas share."""
