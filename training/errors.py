"""Errors of training.

TrainingError
├── InvalidTaskFile   a task file that cannot be read or breaks a rule; names the file and the field
├── InvalidData       a data file that cannot be read or has a bad row; names the file, the row and the field
│   └── TooFewRows    a label has fewer rows than were asked for
├── InvalidArguments  training arguments that contradict each other or the backbone
├── SweepFailed       a sweep that cannot continue: its workers die
├── FolderInUse       a folder of a run or a sweep that another process works in
└── InvalidCheckpoint a run that cannot be resumed: its file is damaged, or its settings differ
"""


class TrainingError(Exception):
    """Anything that this package refuses."""


class InvalidTaskFile(TrainingError):
    """A task file that no task can be built from."""


class InvalidData(TrainingError):
    """Rows that cannot be trained or evaluated on."""


class TooFewRows(InvalidData):
    """A label has fewer rows than were asked for."""


class InvalidArguments(TrainingError):
    """Arguments that no run can be made from."""


class SweepFailed(TrainingError):
    """The sweep cannot continue."""


class FolderInUse(TrainingError):
    """A folder that another process works in."""


class InvalidCheckpoint(TrainingError):
    """The run cannot be resumed."""
