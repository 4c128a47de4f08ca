"""The flag that shutdown has begun: set by the server, read by readiness and by every response."""


class Drain:
    """Set once, when the process receives its stop signal."""

    def __init__(self) -> None:
        self.is_draining = False

    def begin(self) -> None:
        """From now on report not ready and close every connection after its response."""
        self.is_draining = True
