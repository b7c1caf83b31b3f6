"""One look for all figures: colour per model, marker and line per group, safe for colour-blind readers and in grey.

Hue tells the group (where the circuit stands), shade the architecture. Sizes are chosen so that a figure printed 80 mm
wide can still be read.
"""

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
NARROW = 4.0
WIDE = 5.2
"""Widths in inches: one column, one and a half."""

SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "qablate",
    "svg.fonttype": "path",
}


def look() -> Any:
    """Return the context in which every figure is drawn."""
    return rc_context(SETTINGS)
