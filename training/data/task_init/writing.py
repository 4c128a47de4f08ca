"""The text of a drafted task file: YAML with comments for its author."""

import yaml

from training.data.task_init.draft import Draft


def task_file_text(draft: Draft, *, command: str) -> str:
    """Return the text of the file. Scalars that YAML could misread are quoted.

    Args:
        command: the command that writes the file, for its first line
    """
    reasons = {guess.what: guess.why for guess in draft.guesses}
    lines = [
        f"# Written by: {command}",
        "# Everything here is guessed from the rows: review it, edit it, then run `superpos data check`.",
        f"name: {_scalar(draft.name)}",
        'description: ""  # a sentence for the people who will use the task',
        "",
        "# The input of the model: columns of a row by name, with any text between them.",
        f"template: {_scalar(draft.template)}",
        "",
        f"# The name of each label, and the words that the model generates for it: {_comment(reasons['labels'])}.",
        "# Plain words that describe the label are learned fastest.",
        *(f"# EDIT: {_comment(line)}" for line in draft.to_edit),
        "labels:",
        *(f"  {_scalar(name)}: {_scalar(words)}" for name, words in draft.labels.words.items()),
    ]
    if draft.labels.kind == "ordinal":
        lines.append("kind: ordinal  # the labels are numbers; a prediction includes their mean")
    if draft.labels.kind == "multi_label":
        lines.append(
            "kind: multi_label  # a text has any number of the labels; train with --readout soft, pooled or joint"
        )
    lines += [
        f"metrics: [{', '.join(draft.metrics)}]  # {_comment(reasons['metrics'])}",
        f"max_tokens: {draft.max_tokens}  # {_comment(reasons['max_tokens'])}",
        "",
        "data:",
        *(f"  {key}: {_scalar(value)}" for key, value in draft.source.items()),
        f"  label: {_scalar(draft.label)}  # {_comment(reasons['label'])}",
    ]
    if draft.labels.separator is not None:
        lines.append(f"  label_separator: {_scalar(draft.labels.separator)}  # between the labels of a row")
    if set(draft.source) == {"train"}:
        lines.append("  # validation: rows.csv  # if omitted: a tenth of the training rows")
    if draft.labels.values:
        lines.append("  label_values:  # value in that column: name of the label")
        lines += [f"    {_scalar(value)}: {_scalar(name)}" for value, name in draft.labels.values.items()]
    if draft.labels.round_to is not None:
        lines.append(f"  round_to: {draft.labels.round_to}  # label numbers are rounded to this step")
    if draft.columns:
        lines.append("  columns:  # field of the template: its column")
        lines += [f"    {_scalar(field)}: {_scalar(column)}" for field, column in draft.columns.items()]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Return a text as a YAML scalar, unquoted if every YAML reader agrees on it."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=10**6).removesuffix("\n").removesuffix("\n...")
    if plain == text and "#" not in text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).removesuffix("\n")


def _comment(text: str) -> str:
    """Return a text as a single line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
