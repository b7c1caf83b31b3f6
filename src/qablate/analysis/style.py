"""One look for all figures: colour per model, marker and line per group, safe for colour-blind readers and in grey.

Hue tells the group (where the circuit stands), shade the architecture. Every figure is drawn one column wide, so that
its text stands in print as it is set here.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import rc_context  # noqa: E402  the backend is to be chosen first

COLOURS = {
    "1a": "#0072B2", "1b": "#56B4E9", "1c": "#003E66",
    "2a": "#D55E00", "2d": "#F0A35E", "2e": "#8C3A00",
    "3a": "#666666", "3b": "#A6A6A6", "3c": "#111111",
    "4a": "#009E73", "4d": "#7CCFAE", "4e": "#00573F",
}
MARKERS = {1: "o", 2: "s", 3: "^", 4: "D"}
LINES: dict[int, Any] = {1: "-", 2: (0, (5, 1.5)), 3: (0, (1, 1)), 4: (0, (5, 1.5, 1, 1.5))}
STATES = {
    "done": ("finished", "#4477AA", ""),
    "no_improvement": ("finished, never improved", "#99BBDD", ".."),
    "diverged": ("diverged", "#CC6677", "xx"),
    "partial": ("finished, file cut off", "#77AACC", "--"),
    "selected_on_test": ("selected on test items", "#EEBB99", "xx"),
    "no_score": ("cut off, no score", "#DDAACC", "||"),
    "quarantined": ("quarantined", "#BB7755", "**"),
    "rejected": ("rejected", "#BBBBBB", "oo"),
    "checkpoint": ("in training", "#DDCC77", "//"),
    "failed": ("failed", "#882255", "++"),
    "stale": ("stale", "#999933", "\\\\"),
    "unreadable": ("unreadable", "#AA4499", "||"),
    "missing": ("missing", "#FFFFFF", ""),
}
"""Words, colour and hatch of each state of a cell."""

REFERENCE = "#555555"
SHARE_MAP = "YlGnBu"
LENGTH_MAP = "viridis"
SYSTEM_SHADES = ("#4477AA", "#0B2E59", "#9CC3E6")
"""Finished cells of the first, second and third system of a study; further ones look like the last."""
SOLVER = "#AA3377"
BAND = "#DDDDDD"
PALE = "#777777"
BANNER: Mapping[str, Any] = {"facecolor": "#FFF3C4", "edgecolor": "#C9A227", "linewidth": 0.5}
COLUMN = 85 / 25.4
"""Width of every figure in inches: one column of 85 mm."""
SMALL = 6.0
TINY = 5.0
"""Sizes of text in points: notes and legends; counts inside the fields of a map."""

SETTINGS: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.titlepad": 3,
    "axes.labelsize": 7,
    "axes.labelpad": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.0,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.0,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.4,
    "errorbar.capsize": 1.5,
    "hatch.linewidth": 0.4,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.hashsalt": "qablate",
    "svg.fonttype": "path",
}


def look() -> Any:
    """Return the context in which every figure is drawn."""
    return rc_context(SETTINGS)
