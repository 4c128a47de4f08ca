"""Numbers as they are written, and the grid of steps that an ordinal task's labels lie on."""

from decimal import Decimal, InvalidOperation


def number_of(cell: object) -> Decimal | None:
    """A cell's finite number as it is written, so that 2.75 is 2.75; None where it is none."""
    try:
        number = Decimal(str(cell).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def is_on_grid(number: Decimal, step: Decimal) -> bool:
    """Whether a number is a whole number of steps."""
    steps = number / step
    return steps == steps.to_integral_value()


def nearest(number: Decimal, step: Decimal) -> Decimal:
    """The grid's number nearest to one; of two, that of an even number of steps, as T5 rounds STS-B's scores."""
    return (number / step).to_integral_value() * step
