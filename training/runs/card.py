"""The model card of an adapter, its README."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from adapters.adapter import PromptAdapter
from adapters.baselines import BASELINE_FOLDS, Baseline, is_unbeaten, read_baselines, verdict
from adapters.errors import InvalidAdapter
from adapters.exams import ROWS_SHA256
from adapters.files import CARD, from_files, read_folder, to_files, write_folder
from training.runs.adapter_folder import adapter_folder
from training.scoring.bootstrap import Interval, read_intervals
from training.scoring.calibration import calibration_told
from training.scoring.fitted_rows import FittedRows
from training.scoring.multi_label import LabelFigures
from training.task.task_file import TaskFile

_CALIBRATION = "## Calibration"
_CARD = """---
{metadata}
---

# {name}

{description}

{artefact} for the frozen backbone `{backbone}` (revision `{revision}`).
{peft} `superpos.json` holds the task, the provenance and the content of the
digest.

| | |
|---|---|
| input | `{template}` |
| labels | {labels} |
| longest text | {max_tokens} tokens, truncated at the {side} in training |
| method | {method} |
| rows | {rows} |
| split | `{split}`: {split_meaning} |
| report rows | `{report_rows}` |

## Results

{results}

In brackets: 95 % bootstrap intervals over the report rows. The majority-class baseline is the best that one answer
for every row reaches by each metric.{warning}

{label_table}{baselines}{calibration_heading}

{calibration}

## Limits

The adapter was trained and measured on the rows named in `superpos.json` only. The results say nothing about other
kinds of text, and the intervals only cover the random choice of rows. {answers}
The backbone was never changed; the adapter does not work with another model, and the server rejects it there.
"""
_BASELINES = """## Baselines

Simpler classifiers on the same report rows, fitted to the same {rows}; their strength of regularisation was
chosen {chosen}. The lead is the {measure} of this adapter less the baseline's, with its paired
95 % bootstrap interval.

{table}

{verdict}

"""
_SPLITS = {
    "honest": "the best epoch was selected on held-out training rows; the report rows were scored once",
    "paper": "the best epoch was selected on the report rows themselves, so the results are optimistic",
    "kfold": "one fold is reported, the others were trained on; the best epoch was selected on rows held out of those",
}


_FITTED_SPLITS = {
    "honest": "the report rows were scored once",
    "kfold": "one fold is reported, the others were trained on",
}


def model_card(task: TaskFile, adapter: PromptAdapter, *, labels: Sequence[LabelFigures] = ()) -> str:
    """Write the card of a trained adapter from its task and manifest.

    Args:
        labels: the figures of each label of a multi-label task on the report rows
    """
    provenance = adapter.manifest.provenance
    metrics, data = provenance.metrics, provenance.data
    split = str(data["split"])
    collapsed = metrics.get("collapsed", 0.0) == 1.0
    shared = data.get("report_overlap")
    overlap = f" ({shared} with the text of a training row, which makes the scores optimistic)" if shared else ""
    return _CARD.format(
        metadata=_metadata(task, adapter).to_yaml(),
        name=task.name,
        description=task.description or "No description.",
        backbone=adapter.manifest.backbone.id,
        revision=adapter.manifest.backbone.revision,
        artefact=_artefact(adapter),
        peft=_peft(adapter),
        template=_cell(task.spec.template),
        labels=_cell(", ".join(f"{label.name} (“{label.words}”)" for label in task.spec.labels)),
        max_tokens=task.spec.max_tokens,
        side=task.spec.truncation_side,
        method=", ".join(f"{key} {value}" for key, value in provenance.hyperparameters.items()),
        rows=_rows(data) + overlap,
        split=split,
        report_rows=data.get(ROWS_SHA256, "not named"),
        split_meaning=_split_meaning(split, FittedRows.read(data)),
        results=_results(task, metrics, is_out_of_fold=FittedRows.read(data) is not None),
        baselines=_baselines(task, metrics, data),
        warning=" **Every report row got the same label: this run collapsed.**" if collapsed else "",
        label_table=f"{label_table(labels)}\n\n" if labels else "",
        answers=_MULTI_LABEL if task.spec.is_multi_label else _ONE_LABEL,
        calibration_heading=_CALIBRATION,
        calibration=_calibration(adapter),
    )


def _rows(data: Mapping[str, str | int]) -> str:
    """Return the numbers of rows by role, those that the model was fitted to first."""
    train, selection = data["train_rows"], data["selection_rows"]
    fitted = FittedRows.read(data)
    told = (
        f"{train} training, {selection} selection" if fitted is None else fitted.told(train=train, selection=selection)
    )
    told = f"{told}, {data['report_rows']} report"
    if "shots" not in data:
        return told
    more = "" if fitted is None else ", and at most as many selection rows"
    return f"{told}; {data['shots']} training rows of each label{more}"


def _split_meaning(split: str, fitted: FittedRows | None) -> str:
    if fitted is None:
        return _SPLITS[split]
    return f"{fitted.meaning}; {_FITTED_SPLITS[split]}"


def _baselines(task: TaskFile, metrics: Mapping[str, float], data: Mapping[str, str | int]) -> str:
    """Write the part about baselines; empty for an adapter without them."""
    baselines = read_baselines(metrics)
    if not baselines:
        return ""
    titles = _titles(task)
    lines = [f"| | {' | '.join(titles.values())} | this adapter's lead |", "|---" * (len(titles) + 2) + "|"]
    lines += [_line(baseline.title, [*map(baseline.told, titles), _signed_lead(baseline)]) for baseline in baselines]
    told = verdict(baselines)
    return _BASELINES.format(
        table="\n".join(lines),
        rows="training and selection rows" if BASELINE_FOLDS in data else "training rows",
        chosen="out of fold" if BASELINE_FOLDS in data else "on rows that are not reported",
        measure="score" if len(task.metrics) > 1 else titles[task.metrics[0]],
        verdict=f"**{told}**" if is_unbeaten(baselines) else told,
    )


def _signed_lead(baseline: Baseline) -> str:
    lead = baseline.lead
    return f"{lead.value:+.3f} ({lead.low:+.3f} to {lead.high:+.3f})".replace("-", "−")


def _titles(task: TaskFile) -> dict[str, str]:
    """Return the columns of results: the task's metrics first, their mean if there are several."""
    return task.scoring.titles | ({"score": "score (mean of the task's)"} if len(task.metrics) > 1 else {})


_ONE_LABEL = "The answer is always one of the labels, even for a text that none of them fits."
_MULTI_LABEL = (
    "A text has the labels whose probability reaches the label's threshold, or none; the labels are decided one by one."
)


def label_table(labels: Sequence[LabelFigures]) -> str:
    """Write the figures of each label of a multi-label task as a Markdown table."""
    lines = ["| label | rows | threshold | precision | recall | F1 | AP |", "|---" * 7 + "|"]
    for each in labels:
        shares = [f"{each.threshold:.3f}", *(f"{share:.3f}" for share in (each.precision, each.recall, each.f1))]
        precision = "–" if each.average_precision is None else f"{each.average_precision:.3f}"
        lines.append(_line(_cell(each.name), [str(each.support), *shares, precision]))
    return "\n".join(lines)


def _artefact(adapter: PromptAdapter) -> str:
    """Return what the adapter consists of, in words."""
    prompt = f"soft prompt of {adapter.num_virtual_tokens} × {adapter.width} numbers"
    if adapter.readout is None:
        return f"A {prompt}"
    first, mean = "the decoder's first state", "the mean of the encoder's states of the text"
    states = {"soft": first, "pooled": mean, "joint": f"{first} and {mean}"}
    vectors = (
        f"learned readout of {adapter.readout.num_labels} × {adapter.readout.width} numbers on "
        f"{states[adapter.manifest.readout]}"
    )
    return f"A {prompt}, and a {vectors}," if adapter.num_virtual_tokens else f"A {vectors}, without a prompt,"


def _peft(adapter: PromptAdapter) -> str:
    """Return what PEFT can load, in words."""
    if adapter.readout is None:
        return "This folder is a valid PEFT prompt-tuning adapter."
    if adapter.num_virtual_tokens:
        return "PEFT loads the prompt; it does not know the readout in `readout.safetensors`."
    return "PEFT cannot load it: there is no prompt, only `readout.safetensors`."


def record_adapter(folder: Path, adapter: PromptAdapter, *, measured: str) -> Path:
    """Replace the adapter in a folder, and its card's part about calibration; returns the adapter's folder.

    Args:
        measured: digest of the adapter that the results are of

    Raises:
        InvalidAdapter: the folder holds another adapter by now
    """
    where = adapter_folder(folder)
    files = read_folder(where)
    if (found := from_files(files).digest) != measured:
        raise InvalidAdapter(f"adapter in {where}", found, f"{measured}, which was evaluated; evaluate it again")
    card = files.get(CARD, b"").decode()
    write_folder(where, to_files(adapter, card=recalibrated_card(card, adapter)))
    return where


def recalibrated_card(card: str, adapter: PromptAdapter) -> str:
    """Replace the part of a card about calibration; everything else is kept, including what people added.

    A card without that part gets it at its end. The card of an adapter without calibration results is returned as is.
    """
    if not card or "report_ece" not in adapter.manifest.provenance.metrics:
        return card
    part = f"{_CALIBRATION}\n\n{_calibration(adapter)}\n"
    before, heading, after = card.partition(f"{_CALIBRATION}\n")
    if not heading:
        return f"{card.rstrip()}\n\n{part}"
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{part}{next_heading}{rest}"


def _metadata(task: TaskFile, adapter: PromptAdapter) -> ModelCardData:
    """Describe the adapter and its report metrics in the Hub's terms (`model-index`)."""
    provenance = adapter.manifest.provenance
    return ModelCardData(
        library_name="peft" if adapter.num_virtual_tokens else "superpos",
        pipeline_tag="text-classification",
        base_model=adapter.manifest.backbone.id,
        tags=["prompt-tuning", "superpos", "text-classification"],
        model_name=task.name,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=task.name,
                dataset_name=f"{task.name}, report rows",
                metric_type=name,
                metric_name=task.scoring.titles[name],
                metric_value=provenance.metrics[f"report_{name}"],
            )
            for name in task.scoring.measured
        ],
    )


def _results(task: TaskFile, metrics: Mapping[str, float], *, is_out_of_fold: bool) -> str:
    """Write the table of results, the task's metrics first."""
    titles = _titles(task)
    intervals = read_intervals(metrics, role="report")
    lines = [f"| | {' | '.join(titles.values())} | loss (nats) |", "|---" * (len(titles) + 2) + "|"]
    for role, title in (
        ("untrained", "untrained, report"),
        ("selection", "trained, out of fold" if is_out_of_fold else "trained, selection"),
    ):
        lines.append(_line(title, [f"{metrics[f'{role}_{name}']:.3f}" for name in (*titles, "loss")]))
    cells = [f"{metrics[f'report_{name}']:.3f}{_bounds(intervals.get(name))}" for name in (*titles, "loss")]
    lines.append(_line("**trained, report**", cells))
    constants = [f"{metrics[f'report_constant_{name}']:.3f}" for name in titles]
    lines.append(_line("majority-class baseline, report", [*constants, ""]))
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return a text as the content of one cell of a table: a bar or a line's end would end the cell."""
    return " ".join(text.replace("|", "\\|").split())


def _line(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval})"


def _calibration(adapter: PromptAdapter) -> str:
    provenance = adapter.manifest.provenance
    if "report_ece" not in provenance.metrics:
        return "Not measured."
    return calibration_told(adapter.manifest.calibration, provenance.metrics, provenance.data)
