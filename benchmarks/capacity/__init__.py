"""Simulation of up to a thousand replicas with the server's own scheduler, and its check against two real replicas."""
