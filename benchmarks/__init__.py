"""Timings. Each program prints tables and ends with one line of JSON: figures, commit, device and versions."""
