"""Trains a sweep's stacks in this process, one after the other."""

from backbone import Backbone
from training.sweeping.stacks import train_trials
from training.sweeping.sweep import Sweep


def sweep_here(backbone: Backbone, sweep: Sweep) -> None:
    """Train until nothing is left to try.

    Raises:
        KeyboardInterrupt: Ctrl-C; the stack that ran is asked again when the sweep is resumed
    """
    while stack := sweep.next_stack():
        folders = [sweep.folder.run_folder(trial.number) for trial in stack]
        results = train_trials(backbone, sweep.subject, stack, folders, is_hopeless=sweep.is_hopeless)
        for trial, result in zip(stack, results, strict=True):
            sweep.keep(trial.number, result)
