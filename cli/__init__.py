"""The `superpos` command: thin, and slow imports only in the command that needs them."""
