"""The model card: what an adapter's README tells the person who finds it."""

from collections.abc import Mapping

from adapters.adapter import PromptAdapter
from training.scoring.bootstrap import Interval, read_intervals
from training.scoring.calibration import calibration_told
from training.task.scoring import METRIC_TITLES
from training.task.task_file import TaskFile

_CALIBRATION = "## Calibration"
_CARD = """---
library_name: peft
base_model: {backbone}
tags: [prompt-tuning, superpos, text-classification]
---

# {name}

{description}

A soft prompt of {num_virtual_tokens} × {width} numbers for the frozen backbone `{backbone}` (revision `{revision}`).
It is a valid PEFT prompt-tuning folder; `superpos.json` holds the task, the provenance and the digest's content.

| | |
|---|---|
| input | `{template}` |
| labels | {labels} |
| longest text | {max_tokens} tokens, cut at the {side} in training |
| method | {method} |
| rows | {rows} |
| split | `{split}`: {split_meaning} |

## Measured

{results}

In brackets: 95 % bootstrap intervals over the report rows. A constant answer is the best that one label for every row
would have been worth by each metric.{warning}

{calibration_heading}

{calibration}

## Limits

Trained and measured on the rows named in `superpos.json` and on no others: figures say nothing of other kinds of text,
and the interval only how far chance in drawing the rows goes. The answer is always one of the labels, also for a text
that fits none. The backbone never changed; the prompt means nothing to another model, and the server refuses it there.
"""
_SPLITS = {
    "honest": "the best epoch was chosen on held-out training rows, the report rows were scored once",
    "paper": "the best epoch was chosen on the report rows themselves, so the figures flatter",
    "kfold": "one fold is reported, the others trained; the best epoch was chosen on rows held out of those",
}


def model_card(task: TaskFile, adapter: PromptAdapter) -> str:
    """The card of a trained adapter, from its task and manifest alone."""
    provenance = adapter.manifest.provenance
    metrics, data = provenance.metrics, provenance.data
    split = str(data["split"])
    collapsed = metrics.get("collapsed", 0.0) == 1.0
    return _CARD.format(
        name=task.name,
        description=task.description or "No description was given.",
        backbone=adapter.manifest.backbone.id,
        revision=adapter.manifest.backbone.revision,
        num_virtual_tokens=adapter.num_virtual_tokens,
        width=adapter.width,
        template=task.spec.template,
        labels=", ".join(f"{label.name} (“{label.words}”)" for label in task.spec.labels),
        max_tokens=task.spec.max_tokens,
        side=task.spec.truncation_side,
        method=", ".join(f"{key} {value}" for key, value in provenance.hyperparameters.items()),
        rows=f"{data['train_rows']} training, {data['selection_rows']} selection, {data['report_rows']} report",
        split=split,
        split_meaning=_SPLITS[split],
        results=_results(task, metrics),
        warning=" **Every report row got the same answer: this run collapsed.**" if collapsed else "",
        calibration_heading=_CALIBRATION,
        calibration=_calibration(adapter),
    )


def recalibrated_card(card: str, adapter: PromptAdapter) -> str:
    """A card with the part about calibration written anew; all else stays, what people wrote into it too.

    A card without that part gets it at its end; of an adapter that was never calibrated, any card stays as it is.
    """
    if not card or "report_ece" not in adapter.manifest.provenance.metrics:
        return card
    part = f"{_CALIBRATION}\n\n{_calibration(adapter)}\n"
    before, heading, after = card.partition(f"{_CALIBRATION}\n")
    if not heading:
        return f"{card.rstrip()}\n\n{part}"
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{part}{next_heading}{rest}"


def _results(task: TaskFile, metrics: Mapping[str, float]) -> str:
    """The table of figures, the task's metrics first."""
    titles: dict[str, str] = {name: METRIC_TITLES[name] for name in task.scoring.measured}
    if len(task.metrics) > 1:
        titles["score"] = "score (mean of the task's)"
    intervals = read_intervals(metrics, role="report")
    lines = [f"| | {' | '.join(titles.values())} | loss (nats) |", "|---" * (len(titles) + 2) + "|"]
    for role, title in (("untrained", "untrained, report"), ("selection", "trained, selection")):
        lines.append(_line(title, [f"{metrics[f'{role}_{name}']:.3f}" for name in (*titles, "loss")]))
    cells = [f"{metrics[f'report_{name}']:.3f}{_bounds(intervals.get(name))}" for name in (*titles, "loss")]
    lines.append(_line("**trained, report**", cells))
    constants = [f"{metrics[f'report_constant_{name}']:.3f}" for name in titles]
    lines.append(_line("constant answer, report", [*constants, ""]))
    return "\n".join(lines)


def _line(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval})"


def _calibration(adapter: PromptAdapter) -> str:
    provenance = adapter.manifest.provenance
    if "report_ece" not in provenance.metrics:
        return "Not measured."
    return calibration_told(adapter.manifest.calibration, provenance.metrics, provenance.data)
