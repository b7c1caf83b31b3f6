"""Comparisons between models, the study's questions answered by them, and the statements of 2026-01-18 checked.

One table of comparisons per task, one forest of all tasks; every word of the answers follows from numbers.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from qablate.analysis import figure as look
from qablate.analysis.bounds import baseline, constant_class, references
from qablate.analysis.claims import VERDICTS, Statement, load_claims
from qablate.analysis.collect import Runs, hours_left
from qablate.analysis.formats import DASH, fixed, metric_name, significant
from qablate.analysis.statistics import ALPHA, MIN_BLOCKS
from qablate.analysis.table import Figure, Section, Table
from qablate.analysis.verdicts import leaning
from qablate.catalog import task_info

Row = Mapping[str, Any]
FINDINGS = "founding"
"""Table of the contrasts that only the statements of 2026-01-18 rest on."""
ROW_HEIGHT = 0.15
TEXT = ("The first side minus the second over matched blocks (length, seed). `higher`: the first is better, for an "
        "error a factor below 1. Holm over the rows of a kind. Fewer than 6 blocks: provisional. A verdict is about "
        "these models (`docs/statistics.md`).")


def comparisons(runs: Runs, table: pd.DataFrame) -> Section:
    """The section `Comparisons`, from the rows of `verdicts.compare`."""
    if table.empty:
        return Section("Comparisons", ("No comparison is declared for the models and tasks of this study.",))
    single, difference = table["label"] == "", table["kind"] == "difference"
    named = table[~single & (table["table"] != FINDINGS)]
    pairs, models = table[single & difference], table[single & ~difference]
    by_task = [_by_task(task, named[named["task"] == task], table[table["task"] == task])
               for task in runs.tasks if (named["task"] == task).any()]
    by_model = [_by_model(key, title, rows) for key, title, rows in (
        ("pair", "Pairs of models", pairs),
        ("model", "Slopes per doubling of the length, and accuracy against chance", models)) if len(rows)]
    drawn = table[(table["table"] != FINDINGS) & (~single | difference)]
    return Section("Comparisons", (TEXT, *by_task, *by_model, *([] if drawn.empty else [forest(runs, drawn)])))


def name_of(row: Any) -> str:
    """Name of a comparison: its label, else the models."""
    words = row["label"] or " - ".join(" ".join(side) for side in (row["plus"], row["minus"]) if side)
    return {"slope": f"slope of {words}", "chance": f"{words} against 0.5"}.get(row["kind"], words)


def shown_estimate(metric: str, value: float, low: float, high: float) -> str:
    """Write an estimate with its interval in units of the score: `+0.09 [+0.02, +0.16]`, `MSE x0.52 [0.35, 0.76]`."""
    if math.isnan(value):
        return DASH
    if metric == "test_mse":     # the benefit is -ln MSE: a difference is a factor
        ends = f" [{significant(math.exp(-high), 2)}, {significant(math.exp(-low), 2)}]" if math.isfinite(low) else ""
        return f"MSE x{significant(math.exp(-value), 2)}{ends}"
    write = fixed(3, "+")
    return write(value) + (f" [{write(low)}, {write(high)}]" if math.isfinite(low) else "")


def _by_task(task: str, rows: pd.DataFrame, every: pd.DataFrame) -> Table:
    """The contrasts of one task that have an interval; the CSV holds every row of the task."""
    has_interval, title = _has_interval(rows), task_info(task).title
    shown = pd.DataFrame([{
        "comparison": name_of(row),
        "estimate [95 %]": shown_estimate(task_info(task).metric, row["estimate"], row["low95"], row["high95"]),
        "verdict": row["verdict"], "blocks": f"{row['blocks']} / {row['planned']}",
        "p, Holm": significant(row["p_holm"], 2), "equivalence p, Holm": significant(row["p_tost_holm"], 2),
        "caveats": row["caveats"]} for row in rows[has_interval].to_dict("records")])
    missing = ", ".join(name_of(row) for row in rows[~has_interval].to_dict("records"))
    open_rows = f" Fewer than two blocks, no interval yet: {missing}." * bool(missing)
    return Table(f"comparisons_{task}", f"{title}: comparisons",
                 f"Slopes are per doubling of the length.{open_rows}", _plain(every), shown)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as a CSV holds them: lists as words."""
    return rows.assign(**{side: rows[side].map(" ".join) for side in ("plus", "minus")},
                        lengths=[" ".join(map(str, lengths)) for lengths in rows["lengths"]],
                        pairs=[" ".join(f"{name.replace(' ', '')}:{one.value:.6g}" for name, one in pairs)
                               for pairs in rows["pairs"]])


def _by_model(key: str, title: str, rows: pd.DataFrame) -> Table:
    """One row per model or pair (`key`) that has a block, a column per task and kind."""
    found: dict[str, list[Row]] = {}
    for row in rows.to_dict("records"):
        found.setdefault(_short(row), []).extend([row] * (row["verdict"] != "open"))
    waiting = ", ".join(who for who, known in found.items() if not known)
    caption = "Estimate [95 %], verdict (blocks of planned; seeds for chance; Holm p)." + (
        f" No block yet: {waiting}." if waiting else "")
    lines = [{key: who, **dict(map(_cell, known))} for who, known in found.items() if known]
    shown = pd.DataFrame(lines).fillna(DASH)
    shown["caveats"] = [_caveats(known) for known in found.values() if known]
    return Table(f"comparisons_{key}s", title, caption, _plain(rows), shown)


def _cell(row: Row) -> tuple[str, str]:
    """The column of a comparison, and all about it but its caveats."""
    task = task_info(row["task"])
    column = {"slope": f"slope, {task.title}", "chance": f"{task.title} - 0.5"}.get(row["kind"], task.title)
    p = "" if row["verdict"].startswith("provisional") else f", p {significant(row['p_holm'], 2)}"
    estimate = shown_estimate(task.metric, row["estimate"], row["low95"], row["high95"])
    return column, f"{estimate} {row['verdict']} ({row['blocks']} / {row['planned']}{p})"


def _caveats(rows: list[Row]) -> str:
    """Caveats of a model's comparisons, with their task where they are not those of all its tasks."""
    tasks: dict[str, set[str]] = {}
    for row in rows:
        for caveat in filter(None, row["caveats"].split("; ")):
            tasks.setdefault(caveat, set()).add(task_info(row["task"]).title)
    several = len({row["task"] for row in rows}) > 1
    return "; ".join(f"{caveat} ({', '.join(sorted(titles))})" if several and len(titles) == 1 else caveat
                     for caveat, titles in tasks.items())


def forest(runs: Runs, rows: pd.DataFrame) -> Figure:
    """These comparisons in units of their margins, pairs that they are made of as dots behind the mean."""
    data = rows.drop(columns=["pairs", "plus", "minus", "lengths"])
    return Figure("comparisons", "Comparisons in units of the margin",
                  "Mean and 95 % interval, pairs of models as grey dots; 1 is the smallest difference that matters (a "
                  "factor 1.5 in MSE, 0.05 in R², 0.02 in accuracy). Filled: decided. Shaded: too small to matter.",
                  lambda: _draw(runs, rows), data)


def _draw(runs: Runs, rows: pd.DataFrame) -> Canvas:
    names = list(dict.fromkeys(name_of(row) for row in rows.to_dict("records")))
    tasks = [task for task in runs.tasks if (rows["task"] == task).any()]
    figure, axes = look.grid(0.7 + ROW_HEIGHT * len(names), 1, len(tasks), sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        _panel(axis, rows[rows["task"] == task], names)
        look.name_panel(axis, task)
    axes[0, 0].set_yticks(range(len(names)), names, parse_math=False)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    axes[0, len(tasks) // 2].set_xlabel("difference in margins; positive: the first is better", fontsize=look.SMALL)
    look.banner(figure, look.missing_lines(runs))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    axis.axvspan(-1, 1, color=look.BAND, alpha=0.6, linewidth=0)
    axis.axvline(0, **look.BASELINE)
    largest = [2.0]
    axis.tick_params(axis="y", length=0)
    for row in rows.to_dict("records"):
        place, margin = names.index(name_of(row)), row["margin"]
        if row["verdict"] == "open":
            axis.text(0.02, place, "open", transform=axis.get_yaxis_transform(), fontsize=look.TINY, color=look.PALE,
                      va="center")
        dots = [pair.value / margin for _, pair in row["pairs"] if not math.isnan(pair.value)]
        largest += [1.1 * abs(dot) for dot in dots]
        axis.plot(dots, [place] * len(dots), "o", color="#999999", markersize=2.2, alpha=0.8, linestyle="")
        if math.isnan(row["estimate"]):
            continue
        sides = look.whiskers([row["estimate"] / margin], [row["low95"] / margin], [row["high95"] / margin])
        decided = row["verdict"] in ("higher", "lower", "equivalent")
        axis.errorbar([row["estimate"] / margin], [place], xerr=sides, fmt="o", color="#0072B2", markersize=3.5,
                      markerfacecolor="#0072B2" if decided else "white", elinewidth=0.9)
    estimates, ends = (rows[keys].div(rows["margin"], axis=0).abs().replace(np.inf, np.nan).max().max()
                       for keys in (["estimate"], ["low95", "high95"]))
    limit = np.nanmax([*largest, 1.1 * estimates, min(1.1 * ends, 3 * max(largest))])
    axis.set_xlim(-limit, limit)


WORDS: Mapping[str, Mapping[str, str]] = {
    "difference": {"higher": "better", "lower": "worse", "equivalent": "no difference that matters"},
    "slope": {"higher": "improves with length", "lower": "degrades with length",
              "equivalent": "no change that matters"},
    "slopes": {"higher": "scales better", "lower": "scales worse", "equivalent": "scales alike"},
    "chance": {"higher": "above chance", "lower": "below chance", "equivalent": "at chance"},
}
SHOWN_ROWS, SHOWN_CAVEATS, SHOWN_NUMBERS, SHOWN_NAMES = 3, 4, 4, 8


def answers(runs: Runs, table: pd.DataFrame) -> Section:
    """The section `Answers`: one row per question of the claims file and task; a question is printed once."""
    claims = load_claims(runs.study)
    declared = {one.caveat for one in claims.contrasts}
    asked = [(text, task, table[(table["question"] == key) & (table["task"] == task)])
             for key, text in claims.questions.items() for task in runs.tasks]
    frame = pd.DataFrame([_answer(runs, text, task, rows, declared) for text, task, rows in asked if len(rows)])
    if frame.empty:
        return Section("Answers", ("No question is declared for the models and tasks of this study.",))
    shown = frame.assign(question=frame["question"].mask(frame["question"].duplicated(), ""))
    caption = ("Each verdict speaks about these models. Provisional: fewer than 6 matched blocks (length, seed), 3 "
               "lengths of a slope or 3 seeds against chance, or one pair out of several; not corrected for the number "
               "of comparisons.")
    return Section("Answers", (Table("answers", "Answers", caption, frame, shown, len(shown)),))


def _answer(runs: Runs, question: str, task: str, rows: pd.DataFrame, declared: set[str]) -> dict[str, str]:
    """Rows with a label answer; while one of them has no interval, what single models and pairs say so far."""
    labelled = rows[rows["label"] != ""]
    main = rows if labelled.empty else labelled
    known, single = main[main["verdict"] != "open"].to_dict("records"), rows.drop(index=main.index).to_dict("records")
    pairs = [pair for row in main.to_dict("records") for pair in _pairs(row)]
    looked_at = single if any(map(_differs, single)) else pairs
    so_far = [row for row in looked_at if _differs(row)]
    said = _grouped(main.to_dict("records")) if _has_interval(main).any() else ["**open**"]
    counted = sum(math.isfinite(row["low95"]) for row in looked_at)
    so_many = f"of {counted} {'pairs' if looked_at is pairs else 'rows'}, " * (counted > 1)
    said += [("so far, " + so_many if pairs else "") + "; ".join(_grouped(so_far))] * bool(so_far)
    estimates = [f"{_short(row)} {_estimate(row)}" if len(main) > 1 else _estimate(row) for row in known]
    estimates += [f"{_short(row)} {_estimate(row)}" + f" ({row['blocks']} {row['unit']})" * (row["blocks"] > 1)
                  for row in (so_far or pairs[:1])[:SHOWN_ROWS]]
    solvers, rule = _of_forrelation(runs) if (rows["kind"] == "chance").any() else ("", "")
    parts = dict.fromkeys(part for row in [*known, *so_far] for part in row["caveats"].split("; ") if part)
    diverged = sorted((part for part in parts if "diverged" in part), key=lambda part: int(part.split()[0]))
    most = ["up to " * (len(diverged) > 1) + part for part in diverged[-1:]]
    rest = sorted((part for part in parts if part not in diverged), key=lambda part: part not in declared)
    caveats = [*most, *rest][:SHOWN_CAVEATS]    # cut, but none that was declared
    low, high = main["blocks"].min(), main["blocks"].max()
    words = "; ".join(said)
    return {"question": question, "task": task_info(task).title,
            "answer so far": ". ".join(filter(None, (solvers, words[:1].upper() + words[1:]))),
            "estimate [95 %]": "; ".join(estimates) or DASH,
            "blocks": f"{low if low == high else f'{low} to {high}'} / {main['planned'].max()}"
                      + " seeds" * bool((main["unit"] == "seeds").all()),
            "caveat, what is missing": "; ".join(filter(None, (
                *caveats, rule, _missing(runs, main))))}


def _has_interval(rows: pd.DataFrame) -> pd.Series:
    return np.isfinite(rows["low95"].astype(float))


def _differs(row: Row) -> bool:
    return row["verdict"].removeprefix("provisional: ") in ("higher", "lower")


def _grouped(rows: Iterable[Row]) -> list[str]:
    """`1b, 1c: improves with length (provisional)`, one text per verdict."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        kind = "slopes" if row["kind"] == "slope" and row["minus"] else row["kind"]
        verdict = row["verdict"].removeprefix("provisional: ")
        words = "**open**" if not math.isfinite(row["low95"]) else (
            f"**{WORDS[kind].get(verdict, verdict)}**" + " (provisional)" * (verdict != row["verdict"]))
        groups.setdefault(words, []).append(_short(row))
    return [f"{', '.join(names[:SHOWN_NAMES])}{f' and {more} more' if (more := len(names) - SHOWN_NAMES) > 0 else ''}: "
            f"{words}" for words, names in groups.items()]


def _short(row: Row) -> str:
    return name_of({**row, "kind": "difference"})


def _pairs(row: Row) -> list[Row]:
    """The pairs that have an interval, of a contrast that has none, as rows; those with most blocks first.

    A side of a pair with enough blocks for it needs a p of the exact test.
    """
    ends = [] if math.isfinite(row["low95"]) else [
        (name, one, *one.interval()) for name, one in sorted(row["pairs"], key=lambda pair: -pair[1].n) if one.n]
    return [{**row, "label": name, "estimate": one.value, "low95": low, "high95": high, "blocks": one.n,
             "verdict": "provisional: unclear" if one.n >= MIN_BLOCKS and one.p > ALPHA else
             f"provisional: {leaning(one.value, low, high, row['margin'])}"}
            for name, one, low, high in ends if math.isfinite(low)]


def _estimate(row: Row) -> str:
    if row["kind"] == "chance":
        at = baseline(row["task"])
        words = f"{row['estimate'] + at:.3f} [{row['low95'] + at:.3f}, {row['high95'] + at:.3f}]"
        return words + " (1 seed)" * (row["blocks"] == 1)
    words = shown_estimate(task_info(row["task"]).metric, row["estimate"], row["low95"], row["high95"])
    return words + " per doubling" * (row["kind"] == "slope") + " (1 block)" * (row["blocks"] == 1)


def _missing(runs: Runs, main: pd.DataFrame) -> str:
    """Cells without a run that an answer needs, and those at the shortest length, if they are what opens it."""
    needed = _cells(runs, main)
    n, hours, _ = hours_left(needed)
    if not n:
        return ""
    words = f"{n} cell{'s' * (n != 1)} missing ({significant(hours)} h)"
    first = _cells(runs, main[~_has_interval(main) & (main["kind"] != "slope")])
    first = first[first["length"] == first["length"].min()]
    n_first, hours, _ = hours_left(first)
    cells, verb = ("1 cell", "opens") if n_first == 1 else (f"{n_first} cells", "open")
    at = f"{cells} at L = {first['length'].min()} ({significant(hours)} h) {verb} it; " if n_first else ""
    return at + words


def _cells(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    needed = {(row["task"], model) for row in rows.to_dict("records") for model in (*row["plus"], *row["minus"])}
    return runs.cells[[key in needed for key in zip(runs.cells["task"], runs.cells["model"], strict=True)]]


def _of_forrelation(runs: Runs) -> tuple[str, str]:
    """What solvers reach, and what one class scores by the published rule; nothing on other datasets."""
    known = references(runs.study)
    solved = known[(known["task"] == "forrelation") & (known["reference"] == "table ridge")]
    if solved.empty:
        return "", ""
    scores = ", ".join(f"{value:.3f}" for value in solved["value"])
    rule = constant_class()["published_rule"]
    return (f"Ridge on products of table entries learns it: {scores} at L = {', '.join(map(str, solved['length']))}",
            f"published scores chose the epoch on the test items; a constant class scores {rule.mean():.4f} that way, "
            f"best {rule.max():.3f}")


def findings(runs: Runs, table: pd.DataFrame) -> Section:
    """The section on the statements of 2026-01-18 that are about tasks with the published data and recipe."""
    title, published = "Findings of 2026-01-18, checked", set[str]()
    if runs.study.recipe == "published":
        published = {spec.task for spec in runs.study.datasets if spec.variant == "published"}
    statements = [one for one in load_claims(runs.study).statements if set(one.tasks) <= published]
    if not statements:
        return Section(title, ())
    checked = [(one.statement, *(_by_contrasts(table, one) if one.contrasts else _by_threshold(runs, one)))
               for one in statements]
    frame = pd.DataFrame(checked, columns=["statement", "outcome", "numbers"])
    return Section(title, (Table(
        "findings", title, "Holds: every row it rests on has the verdict; open: rows are missing or undecided.", frame,
        frame.assign(outcome=frame["outcome"].map("**{}**".format))),))


def _by_contrasts(table: pd.DataFrame, one: Statement) -> tuple[str, str]:
    rows = table[table["id"].isin(one.contrasts) & table["task"].isin(one.tasks)].to_dict("records")
    verdicts = [row["verdict"] for row in rows]
    against = any(verdict in VERDICTS and verdict != one.verdict for verdict in verdicts)
    outcome = "does not hold" if against else "holds" if set(verdicts) == {one.verdict} else "open"
    known = [row for row in rows if row["verdict"] != "open"]
    of_task = [f"{task_info(row['task']).title}, " * (len(one.tasks) > 1) for row in known]
    numbers = [f"{task}{name_of(row)}: {_estimate(row)}, {row['verdict']} ({row['blocks']} / {row['planned']})"
               for task, row in zip(of_task, known, strict=True)]
    missing = [f"{len(rows) - len(known)} of {len(rows)} comparisons open"] * (len(known) < len(rows))
    return outcome, "; ".join([*(numbers if len(rows) <= SHOWN_NUMBERS else _grouped(known)), *missing])


def _by_threshold(runs: Runs, one: Statement) -> tuple[str, str]:
    """Compare the mean over seeds of every model, task and length; a diverged run counts as a constant prediction."""
    rows = runs.table[runs.table["counts"] & runs.table["task"].isin(one.tasks) & runs.table["model"].isin(one.models)]
    worst = 0.0 if one.metric == "test_r2" else rows["task"].map(baseline)
    values = rows[one.metric].where(rows["status"] != "diverged", worst)
    means = values.groupby([rows["model"], rows["task"], rows["length"]]).agg(["mean", "count"])
    whole = means[means["count"] == len(runs.seeds)]["mean"]
    planned = len(one.models) * sum(len(runs.lengths(task)) for task in one.tasks)
    if whole.empty:
        return "open", f"0 of {planned} means there"
    if one.above is not None:
        word, extreme, wrong = "lowest", whole.idxmin(), whole <= one.above
    else:
        word, extreme, wrong = "highest", whole.idxmax(), whole >= one.below
    outcome = "does not hold" if wrong.any() else "holds" if len(whole) == planned else "open"
    metric, (model, task, length) = metric_name(one.metric).removeprefix("test "), extreme
    of_task = f"{task_info(task).title}, " * (len(one.tasks) > 1)
    return outcome, (f"{word} mean {metric} {whole[extreme]:.4f} ({of_task}{model}, L = {length}); {len(whole)} of "
                     f"{planned} means there, {int(wrong.sum())} against")
