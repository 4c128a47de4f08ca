"""The model thread's activity, by which the event loop knows when to yield to it."""

import threading


class ModelActivity:
    """Whether a batch runs, and how many rows it has answered."""

    def __init__(self) -> None:
        self.idle = threading.Event()
        """Set while no batch runs."""
        self.idle.set()
        self.num_answers = 0
        """Rows whose scores were computed, cancelled ones left out."""
