"""Errors of sizing.

SizingError
├── InvalidCoefficients  a file of coefficients that cannot be read
├── NotMeasured          the coefficients do not cover a precision or a number of cores
├── InvalidWorkload      a workload or a target that is out of bounds
├── Unreachable          no number of replicas reaches the latency target
└── MeasuringFailed      a process of the measurement ended, or did not answer
"""


class SizingError(Exception):
    """Anything that this package refuses."""


class InvalidCoefficients(SizingError):
    """A file that is not one of coefficients; names the member, the value, and what was expected."""


class NotMeasured(SizingError):
    """The coefficients do not cover what was asked; names what they cover."""


class InvalidWorkload(SizingError):
    """A value of the workload or of a target that is out of bounds."""


class Unreachable(SizingError):
    """A latency target below what a replica without load takes."""


class MeasuringFailed(SizingError):
    """A process of the measurement ended, or did not answer in time; has the end of its output."""
