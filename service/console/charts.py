"""Small charts as SVG, drawn on the server. Sizes are attributes: the content security policy forbids inline styles."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _TALL = 100.0, 10.0, 40.0


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


def histogram(then: Sequence[int], now: Sequence[int]) -> Markup:
    """Return the shares of two histograms with the same bins, in pairs of columns; the page has them as a table."""
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in (then, now)]
    most, step = max([*shares[0], *shares[1], 1e-9]), _WIDTH / max(len(then), 1)
    columns = "".join(
        f'<rect class="{kind}" x="{index * step + offset * step:.2f}" y="{_TALL * (1 - share / most):.2f}" '
        f'width="{0.4 * step:.2f}" height="{_TALL * share / most:.2f}"/>'
        for kind, offset, series in (("then", 0.08, shares[0]), ("now", 0.52, shares[1]))
        for index, share in enumerate(series)
    )
    return _tall("histogram", columns)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], *, from_zero: bool = False) -> Markup:
    """Return lines through points; the page has the values as text.

    Args:
        series: points (x, y) of each line
        from_zero: begin the scale of y at 0 instead of at the lowest value
    """
    points = [point for each in series.values() for point in each]
    if not points:
        return Markup("")
    (left, low), (right, high) = (tuple(map(pick, zip(*points, strict=True))) for pick in (min, max))
    low = 0.0 if from_zero else low
    across, up = (_WIDTH / (right - left or 1.0)), (0.9 * _TALL / (high - low or 1.0))
    lines = "".join(
        '<polyline points="'
        + " ".join(f"{(x - left) * across:.2f},{0.95 * _TALL - (y - low) * up:.2f}" for x, y in each)
        + '"/>'
        for each in series.values()
    )
    return _tall("curve", lines)


def _tall(kind: str, shapes: str) -> Markup:
    return Markup(  # noqa: S704 - numbers and our own words only
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH:g} {_TALL:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'{shapes}<line class="axis" x1="0" x2="{_WIDTH:g}" y1="{_TALL:g}" y2="{_TALL:g}"/></svg>'
    )
