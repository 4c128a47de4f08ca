"""The model card: what an adapter's README tells the person who finds it."""

from adapters.adapter import PromptAdapter
from training.task_file import TaskFile

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

| | accuracy | macro F1 | loss (nats) |
|---|---|---|---|
{results}

Always answering the commonest label gives accuracy {constant:.3f} on the report rows.{warning}

## Limits

Trained and measured on the rows named in `superpos.json` and on no others. The backbone never changed; the prompt
means nothing to another model, and the server refuses it there.
"""
_SPLITS = {
    "honest": "the best epoch was chosen on held-out training rows, the report rows were scored once",
    "paper": "the best epoch was chosen on the report rows themselves, so the figures flatter",
    "kfold": "one fold is reported, the others trained; the best epoch was chosen on rows held out of those",
}


def model_card(task: TaskFile, adapter: PromptAdapter) -> str:
    """The card of a trained adapter, from its manifest alone."""
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
        results="\n".join(_result_row(name, metrics) for name in ("untrained", "selection", "report")),
        constant=metrics["report_constant_accuracy"],
        warning=" **Every report row got the same answer: this run collapsed.**" if collapsed else "",
    )


def _result_row(name: str, metrics: dict[str, float]) -> str:
    titles = {"untrained": "untrained, report", "selection": "trained, selection", "report": "trained, report"}
    cells = (f"{metrics[f'{name}_{figure}']:.3f}" for figure in ("accuracy", "macro_f1", "loss"))
    return f"| {titles[name]} | {' | '.join(cells)} |"
