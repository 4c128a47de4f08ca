"""Small charts as SVG, drawn on the server. Sizes are attributes: the content security policy forbids inline styles."""

from markupsafe import Markup

_WIDTH, _HEIGHT = 100.0, 10.0


def bar(share: float, *, threshold: float | None = None, kind: str = "") -> Markup:
    """Return a bar from 0 to 1, with a line at a threshold; the page has the number as text.

    Args:
        share: length of the bar, 0 to 1
        threshold: where the line is; None draws none
        kind: further class of the bar: `best`, `below`
    """
    line = ""
    if threshold is not None:
        x = _WIDTH * min(max(threshold, 0.0), 1.0)
        line = f'<line class="threshold" x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="{_HEIGHT:g}"/>'
    width = _WIDTH * min(max(share, 0.0), 1.0)
    return Markup(  # noqa: S704 - numbers and our own words only
        f'<svg class="bar {kind}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="{_WIDTH:g}" height="{_HEIGHT:g}"/>'
        f'<rect class="fill" width="{width:.2f}" height="{_HEIGHT:g}"/>{line}</svg>'
    )
