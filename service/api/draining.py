"""Draining: whether the server is on its way out. Set by whoever stops it, read by readiness and by every answer."""


class Drain:
    """Begins with the stop's signal and never ends."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """Readiness is off from now on, and every answer closes its connection."""
        self.begun = True
