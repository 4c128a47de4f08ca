"""Style of all figures: ink, series colours, fonts, spines. Colours are named only here.

The colours are Okabe and Ito's, darkened for white paper. In a page each stands for a CSS variable, whose dark value is
`DARK`'s: see `training.report.svg`.
"""

from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1f2430", "#667085", "#d9dee6"
PAPER = "#fffffe"
BLUE, ORANGE, GREEN, PURPLE, AMBER, TEAL = "#0068a8", "#c24a00", "#007d5a", "#a14a86", "#946200", "#2d7f8f"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, TEAL)
HEAT, COLD = "#3d8fd1", "#e07b39"
"""Fill of cells by strength: of what is positive, of what is negative."""

LIGHT = MappingProxyType(
    {
        "ink": INK,
        "muted": MUTED,
        "rule": RULE,
        "paper": PAPER,
        "blue": BLUE,
        "orange": ORANGE,
        "green": GREEN,
        "purple": PURPLE,
        "amber": AMBER,
        "teal": TEAL,
        "heat": HEAT,
        "cold": COLD,
    }
)
DARK = MappingProxyType(
    {
        "ink": "#e6e9ef",
        "muted": "#98a2b3",
        "rule": "#343b48",
        "paper": "#14171d",
        "blue": "#5fb4ec",
        "orange": "#f58a4b",
        "green": "#3ec79b",
        "purple": "#dd8fc4",
        "amber": "#e2b341",
        "teal": "#6cc5d6",
        "heat": "#2f7fc0",
        "cold": "#c2622a",
    }
)

_MARGIN_IN = {"left": 0.55, "right": 0.15, "top": 0.32, "bottom": 0.45}


def panels(
    count: int,
    *,
    columns: int = 2,
    width: float = 3.6,
    height: float = 2.6,
    left: float = _MARGIN_IN["left"],
    right: float = _MARGIN_IN["right"],
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, row by row; sizes in inches.

    Args:
        width: of a panel with its margins
        height: of a panel with its margins
        left: margin at a panel's left, for the names of its ticks
        right: margin at a panel's right, for the names of its lines
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height))
    total_width, total_height = columns * width, rows * height
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        start = column * width + left
        bottom = (rows - 1 - row) * height + _MARGIN_IN["bottom"]
        size = (width - left - right, height - _MARGIN_IN["top"] - _MARGIN_IN["bottom"])
        box = (start / total_width, bottom / total_height, size[0] / total_width, size[1] / total_height)
        axes.append(plain(figure.add_axes(box)))
    return figure, axes


def plain(axes: Axes) -> Axes:
    """Two thin spines, muted ticks, no box."""
    axes.patch.set_alpha(0.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(colors=MUTED, labelsize=8, length=3, width=0.8, labelcolor=MUTED)
    axes.xaxis.label.set(color=MUTED, size=8.5)
    axes.yaxis.label.set(color=MUTED, size=8.5)
    axes.locator_params(axis="y", nbins=5)
    return axes


def name_at_edge(axes: Axes, text: str, y: float, *, colour: str, gap: float) -> None:
    """Write a text to the right of a panel, at a height in its data; `gap` points from its edge."""
    axes.annotate(
        text,
        xy=(1, y),
        xycoords=("axes fraction", "data"),
        xytext=(gap, 0),
        textcoords="offset points",
        color=colour,
        fontsize=8.5,
        va="center",
        annotation_clip=False,
    )


def title(axes: Axes, text: str) -> None:
    """A panel's title, at its left."""
    axes.set_title(text, loc="left", color=INK, fontsize=9.5, pad=8)
