"""Model thread: scheduler, prompt table, model runner, fault isolation, and the checks of its health.

`Engine` accepts rows from the event loop and returns futures; everything else runs on the model thread or watches it.
"""
