"""The `superpos` command line."""
