"""What a cell of the label column names: a label by its name, by a value that stands for it, or by its number."""

from decimal import Decimal

from training.task.grid import nearest, number_of
from training.task.task_file import TaskFile


def label_index(cell: object, task: TaskFile) -> int | None:
    """The index of the label that a cell names; None where it names none.

    In an ordinal task a number is the label of the same value, after `data.round_to` where that is given: T5's
    STS-B target is round(5·s)/5 (Raffel et al. 2020, §2.4), which is `round_to: 0.2`.
    """
    names = task.spec.label_names
    name = task.data.label_values.get(str(cell), str(cell))
    if name in names:
        return names.index(name)
    number = number_of(cell) if task.spec.kind == "ordinal" else None
    if number is None:
        return None
    if task.data.round_to is not None:
        number = nearest(number, task.data.round_to)
    return next((index for index, known in enumerate(names) if Decimal(known) == number), None)
