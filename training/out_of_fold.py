"""What a cross-validation comes to: every row as the prompt answered that did not train on it."""

from collections.abc import Sequence

import numpy as np

from training.evaluation import TokenizedRows
from training.metrics import Metrics, Scoring
from training.run import RunReport


def out_of_fold(reports: Sequence[RunReport], scoring: Scoring) -> Metrics:
    """The metrics of all folds' report rows taken together."""
    groups = [group for report in reports for group in report.rows.groups or ()]
    rows = TokenizedRows(
        token_ids=tuple(ids for report in reports for ids in report.rows.token_ids),
        labels=np.concatenate([report.rows.labels for report in reports]),
        num_truncated=sum(report.rows.num_truncated for report in reports),
        groups=tuple(groups) or None,
    )
    return rows.measured(np.concatenate([report.answered for report in reports]), scoring)
