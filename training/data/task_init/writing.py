"""A drafted task as the text of its file: YAML with comments for the person who edits it."""

import yaml

from training.data.task_init.draft import Draft


def task_file_text(draft: Draft, *, command: str) -> str:
    """The file's text. Every scalar that YAML could take for something else stands in quotes.

    Args:
        command: what it was written by, for its first line
    """
    reasons = {guess.what: guess.why for guess in draft.guesses}
    lines = [
        f"# Written by: {command}",
        "# Everything here is a guess from the rows: read it, edit it, then see what `superpos data check` finds.",
        f"name: {_scalar(draft.name)}",
        'description: ""  # a sentence for the people who will use the task',
        "",
        "# What the model reads: the columns of a row by name, between words of yours.",
        f"template: {_scalar(draft.template)}",
        "",
        f"# A label's name, then the words that the model spells for it: {_comment(reasons['labels'])}.",
        "# Plain words that say what the label means learn fastest.",
        *(f"# EDIT: {_comment(line)}" for line in draft.to_edit),
        "labels:",
        *(f"  {_scalar(name)}: {_scalar(words)}" for name, words in draft.labels.words.items()),
    ]
    if draft.labels.kind == "ordinal":
        lines.append("kind: ordinal  # the labels are numbers; an answer also has their mean")
    lines += [
        f"metrics: [{', '.join(draft.metrics)}]  # {_comment(reasons['metrics'])}",
        f"max_tokens: {draft.max_tokens}  # {_comment(reasons['max_tokens'])}",
        "",
        "data:",
        *(f"  {key}: {_scalar(value)}" for key, value in draft.source.items()),
        f"  label: {_scalar(draft.label)}  # {_comment(reasons['label'])}",
    ]
    if set(draft.source) == {"train"}:
        lines.append("  # validation: rows.csv  # left out: a tenth of the training rows")
    if draft.labels.values:
        lines.append("  label_values:  # what stands in that column, to the label's name")
        lines += [f"    {_scalar(value)}: {_scalar(name)}" for value, name in draft.labels.values.items()]
    if draft.labels.round_to is not None:
        lines.append(f"  round_to: {draft.labels.round_to}  # a label's number is rounded to this step")
    if draft.columns:
        lines.append("  columns:  # a field of the template, to its column")
        lines += [f"    {_scalar(field)}: {_scalar(column)}" for field, column in draft.columns.items()]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A text as YAML: plain where that is safe for every reader."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=10**6).removesuffix("\n").removesuffix("\n...")
    if plain == text and "#" not in text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).removesuffix("\n")


def _comment(text: str) -> str:
    """A text that stays on its line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
