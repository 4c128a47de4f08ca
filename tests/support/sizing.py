"""Coefficients with round numbers, for tests of plans and simulations."""

from datetime import date

from sizing.coefficients import BatchTime, Coefficients, Origin


def batch_time(*, threads: int = 2, batch_s: float = 0.01, row_s: float = 0.001, token_s: float = 1e-4) -> BatchTime:
    """How long a batch takes on a round machine."""
    return BatchTime(precision="fp32", threads=threads, batch_s=batch_s, row_s=row_s, token_s=token_s, max_error=0.05)


def coefficients(*batches: BatchTime, **changes: object) -> Coefficients:
    """A machine with two cores, measured on one thread and on two."""
    values = {
        "origin": Origin(
            processor="Round Number 2",
            cores=2,
            backbone="embedded",
            width=512,
            measured_on=date(2026, 1, 31),
            command="superpos size --measure round.json",
        ),
        "batches": batches or (batch_time(threads=1, batch_s=0.015, row_s=0.0015, token_s=2e-4), batch_time()),
        "request_s": 0.0004,
        "request_row_s": 0.0001,
        "overhead_s": 0.002,
        "start_s": 10.0,
        "load_adapter_s": 0.002,
        "server_bytes": 1 << 30,
        "adapter_bytes": 50_000,
        "version_bytes": 30_000,
        **changes,
    }
    return Coefficients(**values)
