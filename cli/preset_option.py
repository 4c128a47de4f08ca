"""`--preset`, and `--preset help`: the published recipes in a table."""

from typing import Annotated

import typer

from cli.output import show


def _list(name: str | None) -> str | None:
    if name != "help":
        return name
    from rich.table import Table

    from training.presets import PRESETS

    table = Table("preset", "values", "source")
    for preset, recipe in PRESETS.items():
        values = ", ".join(f"{field} {value}" for field, value in recipe.values.items())
        table.add_row(preset, values, recipe.source)
    show(table)
    raise typer.Exit


PresetOption = Annotated[
    str | None,
    typer.Option(
        callback=_list,
        is_eager=True,
        rich_help_panel="Method",
        help="A recipe to start from, such as paper/superpos, lester/simple or fast; other options win over it. "
        "'--preset help' lists them.",
    ),
]
