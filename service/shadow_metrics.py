"""Shadow versions in numbers: rows by what became of them, of all tasks together."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

OUTCOMES = ("agreed", "flipped", "dropped", "failed")


class ShadowMetrics:
    """Which tasks and which labels, `/tasks/{task}` says."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "superpos_shadow_rows",
            "Rows offered to a shadow version: the same label, another one, no room or time, no answer",
            ["outcome"],
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._rows.labels(outcome)

    def compared(self, rows: Mapping[str, float]) -> None:
        """Count rows by outcome."""
        for outcome, count in rows.items():
            self._rows.labels(outcome).inc(count)
