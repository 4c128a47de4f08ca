"""Peers of the serving benchmark: other servers in front of PEFT. They run in their own environment."""
