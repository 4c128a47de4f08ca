"""The commands, one module per command or group of commands.

A module is imported when its command runs or prints its help. It imports torch, and what imports torch, only inside
the command, so that help and refusals stay fast.
"""
