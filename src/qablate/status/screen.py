"""What `qablate status` prints: tables and lists in 80 columns, lines for scripts, JSON."""

import argparse
import contextlib
import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qablate import __version__
from qablate.catalog import task_info
from qablate.config import known_systems
from qablate.errors import QablateError
from qablate.hours import COSTS_PATH, CostTable
from qablate.logs import duration
from qablate.provenance import utc_time
from qablate.status.survey import STATES, CellStatus, Survey, counts, hours, survey
from qablate.study import Study
from qablate.variants import labelled

COLUMNS = 80
LISTED = 8
JSON_VERSION = 1
SHOWN = {"running": "run", "queued": "queue", "checkpoint": "ckpt", "failed": "fail"}
AGAIN = ("missing", "stale", "unreadable")
"""States without anything under way, one column: never trained, or to be trained again."""
STYLES = {"done": "green", "running": "cyan", "queued": "blue", "checkpoint": "yellow", "failed": "red"}


def console() -> Console:
    """A console of 80 columns, less on a narrower terminal; colours on a terminal only."""
    found = Console(highlight=False)
    return Console(highlight=False, width=min(COLUMNS, found.width) if found.is_terminal else COLUMNS)


def run_status(study: Study, options: argparse.Namespace) -> int:
    """Print what the options of `qablate status` ask for; return the exit code."""
    table = CostTable.at_hand() if options.cost_table == COSTS_PATH else CostTable.read(options.cost_table)
    known, devices = known_systems(study.config), {}
    for text in options.devices:    # dgx=NVIDIA H100 80GB HBM3
        system, _, devices[system] = text.partition("=")
        if not devices[system]:
            raise QablateError(f"--devices {text}: must be SYSTEM=VALUE")
        if system not in known:
            raise QablateError(f"--devices {text}: no system of this study; known are {', '.join(sorted(known))}")
        if devices[system] not in (measured := {row.device: None for row in table.rows}):
            raise QablateError(f"--devices {text}: not in the cost table; there are {', '.join(measured)}")
    take = functools.partial(survey, study, table, devices, ask_slurm=not options.no_queue)
    if options.watch is not None:
        if not 1 <= options.watch <= 86400:
            raise QablateError(f"--watch {options.watch:g}: seconds between two looks, 1 to 86400")
        with contextlib.suppress(KeyboardInterrupt):
            _watch(take, options.watch)
    elif options.missing:
        print("".join(f"{line}\n" for line in missing_lines(take())), end="")
    elif options.json:
        print(json.dumps(to_json(take()), indent=2, allow_nan=False))
    else:
        console().print(screen(take()))
    return 0


def screen(survey: Survey) -> Group:
    """A line in all, a table of models and systems and what its numbers rest on, then the cells that need a look."""
    found = counts(survey.cells)
    rest = ", ".join(f"{found[state]} {state}" for state in STATES[1:] if found[state])
    text = f"study {survey.study.name} on {survey.study.system}: {found['done']} of {len(survey.cells)} cells done"
    parts: list[RenderableType] = [Text(f"{text}; {rest}" if rest else text), _table(survey), *_notes(survey)]
    for state in ("failed", "running", "checkpoint", "stale", "unreadable"):
        parts += _listing(survey, state)
    return Group(*parts)


def _table(survey: Survey) -> Table:
    """One row per model, then per system if there are several: cells of each task, cells by state, hours left.

    Variants of a task are in its column, so that a row fits 80 columns.
    """
    tasks = list(dict.fromkeys(task_info(task).id for task in survey.study.config["tasks"]))
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    named = (task_info(task).short or task_info(task).title.split()[0][:8] for task in tasks)
    for header in (*named, "done", *SHOWN.values(), "miss", "hours"):
        table.add_column(header, justify="right", no_wrap=True)
    for model in survey.study.config["models"]:
        table.add_row(labelled(model), *_figures(survey.of(model=model), tasks))
    for system in survey.systems if len(survey.systems) > 1 else ():
        table.add_row(f"on {system}", *_figures(survey.of(system=system), tasks))
    table.add_row("all", *_figures(survey.cells, tasks), style="bold")
    return table


def _figures(cells: Sequence[CellStatus], tasks: Iterable[str]) -> list[Text]:
    found, (left, unknown) = counts(cells), hours(cells)
    return [*(_share([status for status in cells if task_info(status.cell.task).id == task]) for task in tasks),
            _share(cells), *(_number(found[state], state) for state in SHOWN),
            _number(sum(found[state] for state in AGAIN), "missing"),
            Text(_hours(left.expected) + ("+?" if unknown else ""))]


def _share(cells: Sequence[CellStatus]) -> Text:
    done = sum(status.state == "done" for status in cells)
    return Text(f"{done}/{len(cells)}" if cells else "-", STYLES["done"] if cells and done == len(cells) else "")


def _number(number: int, state: str) -> Text:
    return Text(str(number) if number else ".", STYLES.get(state, "") if number else "dim")


def _hours(value: float) -> str:
    return "." if value == 0 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _listing(survey: Survey, state: str) -> list[Text]:
    """Up to eight cells of one state, a line each."""
    found = [status for status in survey.cells if status.state == state]
    lines = [Text(""), Text(f"{state}:", STYLES.get(state, "") + " bold")] if found else []
    for status in found[:LISTED]:
        limit = survey.study.training_settings(status.cell.model)["max_epochs"]
        at = f"epoch {status.epoch}/{limit}" if status.epoch else ""
        running = status.left if status.state == "running" else None
        left = f"at most {duration(3600 * running.at_most)} left" if running else ""
        name, facts = f"  {status.cell.name}", ", ".join(
            part for part in (at, left, status.job and f"job {status.job}", status.reason) if part)
        apart = len(name) + 2 + len(facts) > COLUMNS
        lines += [Text(text, no_wrap=True, overflow="ellipsis")
                  for text in ([name, f"    {facts}"] if apart else [f"{name}  {facts}"])]
    if len(found) > LISTED:
        lines.append(Text(f"  and {len(found) - LISTED} more (--missing lists all)"))
    return lines


def _notes(survey: Survey) -> list[Text]:
    """What the numbers rest on: queue, cost table, finished cells without a score."""
    left, unknown = hours(survey.cells)
    known, queue, notes = survey.costs.devices, survey.queue, []
    if left.at_most:
        several = len(survey.systems) > 1
        devices = ", ".join(known[one] + f" ({one})" * several for one in survey.systems if one in known)
        notes = [f"hours left, one cell at a time: {_hours(left.expected)} expected, at most {_hours(left.at_most)}",
                 f"hours are of results at hand, else of: {devices}"]
    if unknown:
        notes.append(f"+?: {unknown} cells have no cost estimate (benchmarks/bench.py costs)")
    outcomes = Counter(status.outcome for status in survey.cells if status.outcome not in ("", "ok"))
    if outcomes:
        notes.append(f"of the finished cells {', '.join(f'{n} {word}' for word, n in sorted(outcomes.items()))}")
    if queue.reachable:
        other = f", and {queue.others} that belong to no cell of this study" if queue.others else ""
        notes.append(f"queue: {len(queue.jobs)} jobs of cells{other}")
    elif queue.note:
        notes.append(queue.note)
    return [Text(""), *(Text(note) for note in [*notes, *survey.remarks])]


def _watch(take: Callable[[], Survey], interval: float) -> None:
    """Show `take()` in place, anew every `interval` seconds, until interrupted; one after another without terminal."""
    out = console()
    if not out.is_terminal:
        for turn in itertools.count():
            time.sleep(interval if turn else 0)
            out.print(screen(take()))
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            clock = Text(f"{datetime.now():%H:%M:%S}, every {interval:g} s, Ctrl-C ends", "dim")
            live.update(Group(clock, screen(take())), refresh=True)
            time.sleep(interval)


def missing_lines(survey: Survey) -> list[str]:
    """One line per cell that a dry run lists: model, task, length, seed, state, epoch, reason; separated by tabs."""
    return ["\t".join(map(str, (*vars(status.cell).values(), status.state, status.epoch or "-",
                                " ".join(status.reason.split()) or "-")))
            for status in survey.cells if status.to_train]


def to_json(survey: Survey) -> dict[str, Any]:
    """Everything for programs; keys are only ever added while `version` stays. Hours that are unknown are null."""
    queue = survey.queue
    return {
        "version": JSON_VERSION,
        "qablate": __version__,
        "study": survey.study.name,
        "system": survey.study.system,
        "taken_utc": utc_time(survey.taken_at),
        "queue": {"reachable": queue.reachable, "jobs": len(queue.jobs), "others": queue.others, "note": queue.note},
        "total": _summary(survey.cells),
        "groups": [
            {"system": system, "model": model, "task": task, **_summary(cells)}
            for system in survey.systems
            for task in survey.study.config["tasks"]
            for model in survey.study.config["models"]
            if (cells := survey.of(system=system, task=task, model=model))
        ],
        "cells": [{**vars(status.cell), "name": status.cell.name, "system": status.system, "state": status.state,
                   "to_train": status.to_train, "epoch": status.epoch, "reason": status.reason,
                   "outcome": status.outcome, "job": status.job,
                   "hours_left": status.left and round(status.left.expected, 4),
                   "hours_at_most": status.left and round(status.left.at_most, 4)} for status in survey.cells],
    }


def _summary(cells: Sequence[CellStatus]) -> dict[str, Any]:
    left, unknown = hours(cells)
    return {"planned": len(cells), **counts(cells), "hours_left": round(left.expected, 4),
            "hours_at_most": round(left.at_most, 4), "cells_of_unknown_cost": unknown}
