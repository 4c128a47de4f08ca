"""A run from its task file to its folder: what is written, what it cost, and how it is gone on with."""
