"""The explorer: one page with a table of all cells to filter, and their learning curves to choose, overlay and zoom.

Bokeh draws the curves: its JavaScript is a file of 1.3 MB in the package, so that the page needs no network and making
it starts no browser engine.
"""

from collections.abc import Callable
from typing import Any, Literal

import jinja2
import pandas as pd
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import CDSView, Column, ColumnDataSource, DataRange1d, HoverTool, IndexFilter, Plot
from bokeh.plotting import figure
from bokeh.resources import Resources

from qablate.analysis.collect import CELL, HISTORY, Runs
from qablate.analysis.figure import model_look
from qablate.analysis.formats import fixed, metric_format, metric_name, significant
from qablate.catalog import task_info
from qablate.results import State
from qablate.variants import labelled

TOOLS = "pan,box_zoom,wheel_zoom,zoom_in,zoom_out,undo,reset,save"
MEASURES = {"val_loss": "validation loss", "train_loss": "training loss", "val_metric": "validation metric",
            "train_metric": "training metric", "lr": "learning rate"}
DIGITS = 4
"""Significant digits of a curve: more than a screen shows, in half the bytes."""
HEIGHT = 420
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("qablate.analysis", "templates"), trim_blocks=True, lstrip_blocks=True,
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=jinja2.select_autoescape(("html.j2",)))
TEMPLATES.policies["json.dumps_kwargs"] = {}    # in Bokeh's order, which its references rely on
Scale = Literal["log", "linear"]
SCALES: tuple[Scale, ...] = ("log", "linear")


def explorer_page(runs: Runs, title: str, report: str) -> str:
    """Return the explorer as HTML that needs no other file; `report` is where its link back leads."""
    cells = cell_rows(runs)
    body = TEMPLATES.get_template("explorer.html.j2").render(
        title=title, report=report, cells=cells, filters=filters(runs, cells), measures=MEASURES, height=HEIGHT,
        looks={labelled(model): _look(model) for model in runs.models}, plots=json_item(curve_plots(runs)),
        metrics={task_info(task).title: metric_name(task_info(task).metric) for task in runs.tasks},
        library=Resources(mode="inline", components=["bokeh"], log_level="error").render_js())
    return TEMPLATES.get_template("page.html.j2").render(title=title, body=body, headings=[])


def cell_rows(runs: Runs) -> list[dict[str, Any]]:
    """Return one row per planned cell, as words; `curve` is its place among the curves, None if it has none.

    Regressions first, as in the report.
    """
    curves = {cell: place for place, (cell, _) in enumerate(runs.curves.groupby(CELL, sort=False))}
    metrics = {task: task_info(task).metric for task in runs.tasks}
    cells = runs.cells.merge(runs.table[[*CELL, "epochs", *set(metrics.values())]], "left", CELL).to_dict("records")
    rows = []
    for row in sorted(cells, key=lambda row: task_info(row["task"]).kind == "classification"):
        metric = metrics[row["task"]]
        left = f"about {significant(row['hours'], 2)} h left" if row["hours"] > 0 else ""
        rows.append({"model": labelled(row["model"]), "task": task_info(row["task"]).title, "length": row["length"],
                     "seed": row["seed"], "system": row["system"] or row["assigned"] or "any",
                     "state": State(row["job"] or row["state"]).label,
                     "curve": curves.get(tuple(row[key] for key in CELL)),
                     "score": metric_format(metric)(row[metric]) if pd.notna(row[metric]) else "",
                     "epochs": fixed(0)(row["epochs"]) if pd.notna(row["epochs"]) else "",
                     "note": "; ".join(filter(None, (row["reason"], left)))})
    return rows


def filters(runs: Runs, cells: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what can be filtered by, with the values that the cells have, in the order of the study."""
    states = [state.label for state in State]
    ranks: dict[str, Callable[[Any], Any]] = {
        "length": int, "seed": int, "system": runs.study.system_rank, "state": states.index}
    found = {key: list(dict.fromkeys(row[key] for row in cells)) for key in (*CELL, "system", "state")}
    return found | {key: sorted(found[key], key=rank) for key, rank in ranks.items()}


def curve_plots(runs: Runs) -> Column:
    """Return all curves on a logarithmic and on a linear axis, none of them shown: the page's script chooses."""
    source, view = ColumnDataSource(curve_columns(runs)), CDSView(filter=IndexFilter(indices=[]))
    epochs = DataRange1d()
    return column(*(_plot(scale, epochs, source, view) for scale in SCALES), sizing_mode="stretch_width")


def _plot(scale: Scale, epochs: DataRange1d, source: ColumnDataSource, view: CDSView) -> Plot:
    plot = figure(name=scale, y_axis_type=scale, x_axis_label="epoch", x_range=epochs, height=HEIGHT, tools=TOOLS,
                  active_scroll=None, sizing_mode="stretch_width", visible=scale == SCALES[0])
    lines = plot.multi_line("epoch", "val_loss", source=source, view=view, line_color="color", line_dash="dash",
                            line_width=2, hover_line_width=4)    # type: ignore[call-arg]  # a property while hovered
    plot.add_tools(HoverTool(renderers=[lines], formatters={"$snap_y": "printf"}, tooltips=[
        ("cell", "@cell"), ("epoch", "$snap_x{0}"), ("value", "$snap_y{%.3g}")]))
    plot.toolbar.logo = None
    plot.border_fill_color = plot.background_fill_color = None
    return plot


def curve_columns(runs: Runs) -> dict[Any, list[Any]]:
    """Return one entry per run and column: its cell, its look, its epochs, and the values of each measure."""
    rows = [{"cell": f"{labelled(model)}, {task_info(task).title}, length {length}, seed {seed}", **_look(model),
             "epoch": curve["epoch"].tolist(),
             **{key: [float(f"{value:.{DIGITS}g}") for value in curve[key]] for key in HISTORY}}
            for (model, task, length, seed), curve in runs.curves.groupby(CELL, sort=False)]
    return pd.DataFrame(rows, columns=["cell", "color", "dash", "epoch", *HISTORY]).to_dict("list")


def _look(model: str) -> dict[str, str]:
    """Colour and dashes of a model, those of the report's figures."""
    look = model_look(model)
    dashes = "solid" if look["linestyle"] == "-" else " ".join(f"{round(3 * part)}" for part in look["linestyle"][1])
    return {"color": look["color"], "dash": dashes}
