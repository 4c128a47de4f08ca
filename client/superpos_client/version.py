"""The version of the client, which its distribution reads."""

__version__ = "0.1.0"
