"""The JSON and the CSV of `/usage`."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Self

from service.api.schemas.types import Schema
from service.monitoring.usage import UsageRow

_NUMBERS = ("requests", "rows", "tokens", "errors")
_COLUMNS = ("tenant", "task", "day", *_NUMBERS)


class UsageNumbers(Schema):
    """Requests and their cost."""

    requests: int
    rows: int
    """Rows that got a prediction."""
    tokens: int
    """Packed tokens that the model computed."""
    errors: int


class UsageRowBody(UsageNumbers):
    """Usage of one task on one day."""

    task: str | None
    """Null for requests that named no existing task."""
    day: date
    """UTC."""


class UsageBody(Schema):
    """A tenant's usage, summed over all replicas."""

    tenant: str
    since: date
    until: date
    """Inclusive."""
    total: UsageNumbers
    usage: list[UsageRowBody]

    @classmethod
    def of(cls, tenant: str, rows: Sequence[UsageRow], *, since: date, until: date) -> Self:
        """Build the body, with the sum of all rows."""
        total = UsageNumbers(**{name: sum(getattr(row, name) for row in rows) for name in _NUMBERS})
        usage = [UsageRowBody.model_validate(row) for row in rows]
        return cls(tenant=tenant, since=since, until=until, total=total, usage=usage)


def usage_csv(rows: Sequence[UsageRow]) -> str:
    """Format rows as CSV (RFC 4180) with a header; `task` is empty for requests that named no existing task."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
