"""Plot of rates and p99 by number of adapters, from the curves of `benchmarks.adapters` on standard input.

Needs only matplotlib: it runs in the peers' environment (`make bench-peers`).
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "superpos", "font.family": "sans-serif", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen

COLOURS = {"zipf": "#0b7285", "uniform": "#e8590c"}


def main(path: Path) -> None:
    """Draw the plot into an SVG file."""
    curves = json.load(sys.stdin)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True, layout="constrained")
    for axis, values, title in zip(axes, ("throughput_vs_1", "p99_vs_1"), ("rows/s", "p99 at half load"), strict=True):
        for choice, curve in curves.items():
            axis.plot(curve["adapters"], curve[values], marker="o", label=choice, color=COLOURS[choice])
        axis.set(xscale="log", title=f"{title}, relative to one adapter", xlabel="adapters")
        axis.set_ylim(0, max(1.5, 1.1 * max(max(curve[values]) for curve in curves.values())))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.minorticks_off()
    axes[0].legend(frameon=False, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
