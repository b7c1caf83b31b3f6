"""One look for all figures: colours, markers, grids of panels, the banner of what is missing, and the PNG.

Hue and marker tell a model's group, shade its place in the group; both come from the catalog, so that a model that is
added there has its look. Safe for colour-blind readers and in grey.
"""

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from qablate.analysis.collect import Runs
from qablate.catalog import MODELS, TASKS, model_info
from qablate.results import State
from qablate.variants import is_variant

Look = dict[str, Any]
SHADES = (("#0072B2", "#56B4E9", "#003E66", "#9AD0F5"), ("#D55E00", "#F0A35E", "#8C3A00", "#FFD0A0"),
          ("#666666", "#A6A6A6", "#111111", "#CCCCCC"), ("#009E73", "#7CCFAE", "#00573F", "#B5E6D3"),
          ("#AA3377", "#D98CB8", "#6B1F4B", "#EEC4DB"), ("#999933", "#CCCC77", "#5C5C1F", "#E6E6B8"))
"""Shades of each group; more groups or models begin again."""
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
HATCHES = {State.NO_IMPROVEMENT: "..", State.PARTIAL: "--", State.DIVERGED: "xx", State.SELECTED_ON_TEST: "xx",
           State.NO_SCORE: "||", State.QUARANTINED: "**", State.REJECTED: "oo", State.CHECKPOINT: "//",
           State.FAILED: "++", State.STALE: "\\\\", State.UNREADABLE: "||"}
"""What tells states apart without colour."""
SYSTEM_SHADES = ("#4477AA", "#0B2E59", "#9CC3E6", "#66CCEE")
BASELINE: Look = {"color": "#555555", "linewidth": 1.0}
UPPER: Look = {"color": "#AA3377", "linewidth": 1.0, "linestyle": (0, (6, 1.5))}
PALE, BAND = "#777777", "#DDDDDD"
WIDTH = 170 / 25.4
"""Width of every figure in inches: a page of 170 mm."""
SMALL, TINY = 7.0, 6.0
DPI = 180
SETTINGS: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.titlepad": 4, "axes.labelsize": 8, "axes.labelpad": 2,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "legend.fontsize": SMALL, "legend.frameon": False,
    "legend.handlelength": 2.2, "legend.labelspacing": 0.3, "legend.columnspacing": 1.2, "lines.linewidth": 1.1,
    "lines.markersize": 4, "errorbar.capsize": 1.5, "hatch.linewidth": 0.5, "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03, "figure.dpi": 100, "savefig.dpi": DPI,
}
LINE_HEIGHT = 0.13
"""Inches from one line of the banner to the next."""


def style() -> Any:
    """Return the context in which figures are drawn and rendered."""
    return rc_context(SETTINGS)


def render(canvas: Canvas, kind: str = "png") -> bytes:
    """Return a figure as PNG or PDF; equal input gives equal bytes in every process."""
    buffer = io.BytesIO()
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
    canvas.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
    return buffer.getvalue()


def grid(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Canvas, NDArray[Any]]:
    """Return a figure as wide as a page and `height` inches high, with its axes (rows, columns)."""
    figure = Canvas(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def model_look(model: str, line: bool = True) -> Look:
    """Return colour, marker and line of a model, the same in every figure; without the line for points alone."""
    group = model_info(model).group
    place = sorted({info.group for info in MODELS.values()}).index(group)
    shade = [info.id for info in MODELS.values() if info.group == group].index(model_info(model).id)
    shades = SHADES[place % len(SHADES)]
    return {"color": shades[shade % len(shades)], "marker": MARKERS[place % len(MARKERS)],
            "linestyle": LINES[place % len(LINES)] if line else "",
            **({"markerfacecolor": "white"} if is_variant(model) else {})}


def name_panel(axis: Axes, task: str, *below: str) -> None:
    """Put a task's title above a panel, the tags of a variant on a line of their own: its panels are narrow."""
    title = TASKS[task].title.replace("-", "\n", 1) if is_variant(task) else TASKS[task].title
    axis.set_title("\n".join([title, *below]), fontsize=SMALL if is_variant(task) else None)


def legend_entry(label: str, look: Mapping[str, Any]) -> Line2D:
    """Return an entry for a legend."""
    return Line2D([], [], label=label, **look)


def legend_above(figure: Canvas, entries: Sequence[Line2D | Patch], columns: int) -> None:
    """Put a legend above all panels."""
    figure.legend(handles=entries, loc="outside upper center", ncols=columns)


def banner(figure: Canvas, lines: Iterable[str]) -> None:
    """Write what is missing in a strip below a finished figure, which becomes higher by it; nothing if all is there."""
    wrapped = textwrap.wrap("; ".join(lines), 140)
    if not wrapped:
        return
    room = LINE_HEIGHT * (len(wrapped) + 0.9)
    height = figure.get_figheight() + room
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, room / height, 1, 1 - room / height))    # type: ignore[union-attr,call-arg]
    figure.add_artist(Rectangle((0.003, 0.004), 0.994, (room - 0.05) / height, transform=figure.transFigure,
                                facecolor="#FFF3C4", edgecolor="#C9A227", linewidth=0.5))
    figure.text(0.012, (room / 2 - 0.015) / height, "\n".join(wrapped), fontsize=SMALL - 0.5, va="center", gid="banner")


def missing_lines(runs: Runs, tasks: Sequence[str] | None = None) -> Iterator[str]:
    """Yield what a study lacks, for the banner: how many cells, and which models have none."""
    named = runs.tasks if tasks is None else tasks
    cells = runs.cells[runs.cells["task"].isin(named)]
    if cells["finished"].all():
        return
    yield f"{(~cells['finished']).sum()} of {len(cells)} cells missing"
    for task in named:
        of_task = cells[(cells["task"] == task) & cells["finished"]]
        lack = [model for model in runs.models if model not in set(of_task["model"])]
        if lack:
            yield f"{TASKS[task].title}: no run of {'any model' if of_task.empty else ', '.join(lack)}"


def empty_panel(axis: Axes, text: str = "no result yet") -> None:
    """Say in an empty panel that it is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=PALE, fontsize=SMALL)


def whiskers(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Return distances (2, n) from values to the ends of their intervals; 0 where an interval has no end."""
    distance = np.abs(np.vstack([low, high]).astype(float) - np.asarray(value, dtype=float))
    return np.where(np.isfinite(distance), distance, 0.0)


def score_axis(axis: Axes, task: str) -> None:
    """Make the y axis one of a task's metric with the better scores above: errors logarithmic and upside down."""
    if not TASKS[task].larger_is_better:
        error_axis(axis)
        if not axis.yaxis_inverted():
            axis.invert_yaxis()


def cost_axis(axis: Axes) -> None:
    """Make the x axis a logarithmic one with marks at 1, 2, 5 and the units k and M."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="x", labelsize=TINY)


def error_axis(axis: Axes) -> None:
    """Make the y axis a logarithmic one, with marks between the powers of ten where it is short."""
    axis.set_yscale("log")
    low, high = sorted(axis.get_ylim())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
    axis.yaxis.set_major_formatter(FuncFormatter(
        lambda value, _: f"{value:g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")))
    axis.yaxis.set_minor_locator(NullLocator())
