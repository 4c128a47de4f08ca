"""The client without `async`, written by `python -m scripts.sync_client` from `_async`; `io.py` is by hand in both."""
