"""Figures as text: plain SVG and PNG for files, SVG with CSS variables for colours for a page. Deterministic."""

import io
import re
from html import escape

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from training.report.style import LIGHT, PAPER

_DOTS_PER_INCH = 160
_ROOT = re.compile(r"<svg [^>]*>")


def svg(figure: Figure) -> str:
    """The figure as an SVG file."""
    out = io.StringIO()
    _literal(figure)
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "superpos"}):
        figure.savefig(out, format="svg", metadata=no_metadata, facecolor=PAPER)
    return out.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    _literal(figure)
    figure.savefig(out, format="png", dpi=_DOTS_PER_INCH, facecolor=PAPER)
    return out.getvalue()


def _literal(figure: Figure) -> None:
    """A label's name is a user's: a `$` in it starts no formula."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)


def inline_svg(file: str, *, name: str, description: str) -> str:
    """Turn an SVG file into an element of a page with the page's colours, unique ids and a description.

    Args:
        file: what `svg` made
        name: unique in the page
        description: text for readers who cannot see it
    """
    body = file[file.index("<svg ") :]
    root = _ROOT.match(body)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    assert root is not None
    assert box is not None
    body = body[root.end() :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\b(id=")|(url\(#)|(xlink:href="#)', lambda match: f"{match[0]}{name}-", body)
    for variable, colour in LIGHT.items():
        body = body.replace(colour, f"var(--{variable})")
    width, height = float(box[1]), float(box[2])
    start = (
        f'<svg class="plot" role="img" aria-labelledby="{name}-title" viewBox="0 0 {width:g} {height:g}" '
        f'style="width: {width * 4 / 3:.0f}px; aspect-ratio: {width:g} / {height:g}">'
        f'<title id="{name}-title">{escape(description)}</title>'
    )
    return start + body
