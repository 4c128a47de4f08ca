"""The best trial of a sweep: its adapter and its report rows, looked at once."""

from backbone import Backbone
from training.loop.prompt_run import TrainingJob
from training.methods.factory import start_method
from training.runs.run import Preparation, RunReport, finish
from training.runs.scorer import Scorer
from training.sweeping.folder import read_result
from training.sweeping.study import Trial
from training.sweeping.sweep import EndedTrial, Sweep


def report_best(backbone: Backbone, sweep: Sweep, best: EndedTrial) -> RunReport | None:
    """Score the best trial's prompt on the report rows and write its adapter; None where that is done already."""
    if (sweep.folder.trial(best.number) / "adapter").exists():
        return None
    result = read_result(sweep.folder.trial(best.number))
    assert result is not None
    rows, task = sweep.subject.rows, sweep.subject.task
    job = TrainingJob(
        method=start_method(backbone, best.arguments),
        arguments=best.arguments,
        trie=backbone.label_trie(task.spec.label_words),
        rows=rows.train,
        selection=rows.selection,
        scoring=task.scoring,
    )
    options = sweep.subject.options(Trial(best.number, best.arguments), sweep.folder.run_folder(best.number))
    return finish(Scorer(backbone), Preparation(options, job, rows, recorder=None, sources=()), result)
