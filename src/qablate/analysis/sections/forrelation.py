"""Results on Forrelation: the ranking of the founding document, and the task's solvers next to the models."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from qablate.analysis import figure as look
from qablate.analysis.bounds import constant_class, solvers_of_study
from qablate.analysis.collect import Runs
from qablate.analysis.formats import DASH, fixed
from qablate.analysis.sections import scores
from qablate.analysis.sections.agreement import printed_means
from qablate.analysis.table import Figure, Table, written
from qablate.catalog import model_info
from qablate.variants import is_variant, labelled

TASK = "forrelation"
SOLVERS: dict[str, tuple[str, look.Look]] = {
    "plug_in": ("plug-in statistic", {"color": "#AA3377", "marker": "*"}),
    "table_ridge": ("ridge on products", {"color": "#332288", "marker": "P", "linestyle": "--"}),
    "linear": ("linear on tables", {"color": "#999933", "marker": "X", "linestyle": ":"}),
}
WRITE = fixed(4)


def ranking(runs: Runs, verdicts: pd.DataFrame) -> Table:
    """Models by mean honest accuracy, with the test-selected score in columns of its own; below them references.

    The first baseline also as the published rule would score it.
    """
    chance = verdicts[(verdicts["kind"] == "chance") & (verdicts["plus"].map(len) == 1)]
    rows = scores.means(runs, TASK)
    found = runs.of(TASK).groupby("model")["test_acc"]
    majority = runs.of(TASK).groupby("model")["majority_rate"].mean()
    ours = runs.selected.query("task == @TASK and origin == 'ours'").groupby("model")["score"]
    frame = pd.DataFrame({"model": runs.models, "name": [model_info(model).name for model in runs.models]}).set_index(
        "model", drop=False).rename_axis(None)
    frame = frame.assign(mean=found.mean(), sd=found.std(), best=found.max(), n=found.size(), majority_rate=majority,
                         selected_mean=ours.mean(), selected_best=ours.max(), selected_n=ours.size(),
                         against_chance=chance.set_index(chance["plus"].map(" ".join))["verdict"],
                         printed=printed_means(runs, TASK, "test_acc"))
    frame["against_majority"] = 100 * (frame["mean"] - frame["majority_rate"])
    wide = rows.pivot(index="model", columns="length", values="mean").add_prefix("L")
    frame = frame.join(wide).sort_values(["mean", "model"], ascending=[False, True], na_position="last")
    frame.insert(0, "rank", frame["mean"].rank(ascending=False, method="min"))
    lengths = scores.lengths_shown(runs, TASK, rows).set_index("model").loc[frame["model"]]
    shown = pd.DataFrame({
        "rank": written(frame["rank"], fixed(0)), "model": frame["model"],
        "features→mixing": [DASH if is_variant(model) else model_info(model).notation for model in frame["model"]],
        **{column: lengths[column] for column in lengths if column.startswith("L ")},
        "mean": written(frame["mean"], WRITE), "best": written(frame["best"], WRITE),
        "against majority, points": written(frame["against_majority"], fixed(2, "+")),
        "against chance": written(frame["against_chance"], str),
        "test-selected, mean": written(frame["selected_mean"], WRITE),
        "best, test-selected": written(frame["selected_best"], WRITE),
        "printed 2026-01-18": written(frame["printed"], WRITE),
    })
    foot, rule = scores.reference_rows(runs, TASK).rename(columns={"name": "features→mixing"}), constant_class()
    known = rule[rule["length"].isin(runs.lengths(TASK)) & rule["seed"].isin(runs.seeds)]["published_rule"]
    if len(known) and runs.study.recipe == "published":
        foot.loc[0, ["test-selected, mean", "best, test-selected"]] = [WRITE(known.mean()), WRITE(known.max())]
    return Table("scores_forrelation", "Ranking",
                 "Test accuracy, larger is better: mean over the runs of all lengths that are there. Against majority: "
                 "minus the accuracy on the same test items of the better constant prediction. Against chance: the "
                 "verdict on accuracy minus 0.5. Test-selected: the published rule, which chooses the epoch on the "
                 "items it reports, so that chance scores above one half.",
                 frame, pd.concat([shown, foot], ignore_index=True).fillna(""), len(foot))


def solver_figure(runs: Runs) -> Figure:
    """Accuracy of solvers and models against length, and of solvers against training items."""
    solvers = solvers_of_study(runs.study).rename(columns={"solver": "series", "score": "y"})
    whole = solvers[solvers["n_train"] == solvers["n_train"].max()]
    models = runs.of(TASK).rename(columns={"model": "series", "test_acc": "y"})
    parts = [*(part.assign(panel="length", x=part["length"]) for part in (whole, models)),
             solvers.assign(panel="training items", x=solvers["n_train"])]
    keys = ["panel", "series", "length", "x"]
    frame = pd.concat([part[[*keys, "y"]] for part in parts]).groupby(keys)["y"].agg(y="mean", n="count").reset_index()
    return Figure("forrelation_solvers", "Forrelation: solvers next to the models",
                  "Test accuracy of solvers and models (means over seeds) against length; of solvers against the "
                  "number of training items, lines from below by length.", lambda: _draw(runs, frame), frame)


def _draw(runs: Runs, frame: pd.DataFrame) -> Canvas:
    figure, axes = look.grid(2.5, 1, 2)
    _lines(axes[0, 0], frame[frame["panel"] == "length"], ["series"])
    axes[0, 0].set(xlabel="length L", ylabel="test accuracy")
    _lines(axes[0, 1], frame[frame["panel"] == "training items"], ["series", "length"])
    axes[0, 1].set(xlabel="training items", ylabel="test accuracy")
    named = [model for model in runs.models if model in set(frame["series"])]
    look.legend_above(figure, [*(look.legend_entry(label, style) for label, style in SOLVERS.values()),
                               look.legend_entry("one half", look.BASELINE),
                               *(look.legend_entry(labelled(model), look.model_look(model, False))
                                 for model in named)], 6)
    look.banner(figure, look.missing_lines(runs, [TASK]))
    return figure


def _lines(axis: Axes, frame: pd.DataFrame, keys: list[str]) -> None:
    if frame.empty:
        look.empty_panel(axis, "not computed for these datasets")
        return
    axis.axhline(0.5, **look.BASELINE)
    for names, rows in frame.groupby(keys):
        name = str(names[0])
        axis.plot(rows["x"], rows["y"], **(SOLVERS[name][1] if name in SOLVERS else look.model_look(name, line=False)))
    axis.set_xscale("log")
    marks = sorted(frame["x"].unique())
    axis.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axis.set_xticks([], minor=True)
    axis.tick_params(axis="x", labelsize=6.5)
