"""Deployment of the platform: its processes on one machine, its image, its secrets, and the tools for them."""
