"""Exact decimal numbers, and the grid that the labels of an ordinal task lie on."""

from decimal import Decimal, InvalidOperation


def number_of(cell: object) -> Decimal | None:
    """Return the exact decimal number in a cell, or None if the cell is not a finite number."""
    try:
        number = Decimal(str(cell).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def is_on_grid(number: Decimal, step: Decimal) -> bool:
    """Whether a number is a multiple of the step."""
    steps = number / step
    return steps == steps.to_integral_value()


def nearest(number: Decimal, step: Decimal) -> Decimal:
    """Round a number to the grid, ties to an even number of steps, as T5 rounds the scores of STS-B."""
    return (number / step).to_integral_value() * step
