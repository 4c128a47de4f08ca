"""The client with `async`, from which `python -m scripts.sync_client` writes `_sync`; `io.py` is by hand in both."""
