"""Errors of scoring.

ScoringError
├── InvalidInput    an input, a column or an option does not fit the tasks
├── Mismatch        the output was begun by another job
└── OutputInUse     another process scores into the output
"""


class ScoringError(Exception):
    """Anything that this package refuses."""


class InvalidInput(ScoringError):
    """An input, a column or an option does not fit the tasks; names it."""


class Mismatch(ScoringError):
    """The output was begun with other versions, inputs or options; names each difference."""


class OutputInUse(ScoringError):
    """Another process scores into the output."""
