"""What would settle the open claims, written down: a line for the report, a table for a terminal, rows for programs."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from qablate.analysis.formats import significant
from qablate.analysis.power import MOST_SEEDS, NO_SPREAD, Cost, Prices, Settlement

COLUMNS = 80
MOST_OF_A_PLAN = 10
"""Further seeds that a plan file may add to a claim."""
READING = """\
missing: planned cells without a usable result. seeds: further ones with which
each test has a power of .8 at its margin; holds: with which it would decide if
its present estimate held. ?: unknown, or with cells of unknown cost."""


def words(settlement: Settlement, prices: Prices) -> str:
    """What would decide a claim, in one line that names cells, hours and seeds."""
    parts = [f"{' and '.join(settlement.needs)}, which this study does not have"] if settlement.needs else []
    if settlement.cells:
        parts.append(f"{counted(len(settlement.cells), 'planned cell')} "
                     f"({_cost(prices.of(settlement.cells), prices.devices[0])})")
    if settlement.seeds:
        notes = [f"a plan adds {MOST_OF_A_PLAN} at most"] if settlement.seeds > MOST_OF_A_PLAN else []
        if settlement.if_it_holds is not None:
            notes.insert(0, f"{settlement.if_it_holds} if the present estimate holds")
        parts.append(f"{counted(settlement.seeds, 'further seed')}{_in_brackets(notes)}: "
                     f"{counted(len(settlement.seed_cells), 'cell')} "
                     f"({_cost(prices.of(settlement.seed_cells), prices.devices[0])})")
    elif settlement.seeds == 0 and not settlement.cells:
        parts.append("the seeds at hand have the power, but the estimate lies near the margin")
    if settlement.note and not settlement.needs and not (settlement.cells and settlement.note == NO_SPREAD):
        parts.append(settlement.note)
    return "; ".join(parts)


def _in_brackets(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def counted(n: int, thing: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _cost(cost: Cost, device: str) -> str:
    if cost.unknown == cost.n:
        return "cost unknown"
    return f"{cost.hours:.1f} h on {device}" + (f", {cost.unknown} of unknown cost" if cost.unknown else "")


def power_row(settlement: Settlement, prices: Prices) -> dict[str, Any]:
    """One row of `power.csv`: every number that is printed, unrounded, costs of the first device."""
    result = settlement.result
    now, later = prices.of(settlement.cells), prices.of(settlement.seed_cells)
    values = {"smallest_p": settlement.smallest_p, "half_width90": settlement.half_width,
              "margin": result.outcome.margin, "effect_needed": settlement.effect_needed}
    return {
        "id": result.claim.id, "verdict": result.verdict, "reason": result.reason, "device": prices.devices[0],
        "cells": now.n, "hours": now.hours, "cells_of_unknown_cost": now.unknown, "seeds": settlement.seeds,
        "seeds_if_estimate_holds": settlement.if_it_holds, "seed_cells": later.n, "seed_hours": later.hours,
        "seed_cells_of_unknown_cost": later.unknown, "most_seeds": MOST_SEEDS, "seeds_of_a_plan": MOST_OF_A_PLAN,
        **{key: value if value is not None and math.isfinite(value) else None for key, value in values.items()},
        "needs": "; ".join(settlement.needs), "note": settlement.note, "to_settle": words(settlement, prices),
    }


def as_json(settlement: Settlement, prices: Prices) -> dict[str, Any]:
    """`power_row` with the costs of every device and the missing cells by name."""
    devices = {device: {"missing": vars(prices.of(settlement.cells, device)),
                        "further_seeds": vars(prices.of(settlement.seed_cells, device))} for device in prices.devices}
    return {**power_row(settlement, prices), "costs": devices,
            "missing": [cell.name for cell in settlement.cells]}


def table(settlements: Sequence[Settlement], prices: Prices, n_claims: int) -> str:
    """All open claims in at most 80 columns: missing cells, further seeds, hours of both, and what a claim lacks."""
    lacks = {need: chr(ord("a") + i) for i, need in enumerate(
        dict.fromkeys(need for settlement in settlements for need in settlement.needs))}
    every = dict.fromkeys(cell for settlement in settlements for cell in settlement.cells)
    together = prices.of(every)
    lines = [f"{len(settlements)} of {n_claims} claims are open; hours on {prices.devices[0]}.", READING, "",
             _line("claim", "missing", "hours", "seeds", "holds", "cells", "hours", "lacks")]
    lines += [_of_table(settlement, prices, lacks) for settlement in settlements]
    lines += [_line("missing cells, each once", str(together.n), _hours(together), "", "", "", "", ""), ""]
    lines += [textwrap.fill(f"{letter}: {need}", COLUMNS, subsequent_indent="   ") for need, letter in lacks.items()]
    return "\n".join([*lines, "One claim in detail: qablate power CLAIM. For programs: --json."])


def _of_table(settlement: Settlement, prices: Prices, lacks: Mapping[str, str]) -> str:
    now, later = prices.of(settlement.cells), prices.of(settlement.seed_cells)
    seeds = "" if settlement.needs else "?" if settlement.seeds is None else str(settlement.seeds)
    holds = "" if settlement.if_it_holds is None else str(settlement.if_it_holds)
    return _line(settlement.result.claim.id, str(now.n or ""), _hours(now), seeds, holds, str(later.n or ""),
                 _hours(later), " ".join(lacks[need] for need in settlement.needs))


def _line(claim: str, missing: str, hours: str, seeds: str, holds: str, cells: str, more_hours: str, lacks: str) -> str:
    return f"{claim:<27}{missing:>7}{hours:>9}{seeds:>6}{holds:>6}{cells:>7}{more_hours:>9}  {lacks}".rstrip()


def _hours(cost: Cost) -> str:
    if not cost.n:
        return ""
    return "?" if cost.unknown == cost.n else f"{cost.hours:.1f}{'+?' if cost.unknown else ''}"


def details(settlement: Settlement, prices: Prices) -> str:
    """One open claim: what it says, what would settle it, how precise its test can be, hours by device."""
    result, row = settlement.result, power_row(settlement, prices)
    lines = [f"{result.claim.id}: {result.claim.statement}", result.sentence,
             f"To settle: {words(settlement, prices)}."]
    lines = [textwrap.fill(line, COLUMNS, subsequent_indent="  ") for line in lines]
    facts = {
        "smallest p that the planned blocks allow, after Holm": row["smallest_p"],
        "half width of the 90% interval with them": row["half_width90"],
        "margin": row["margin"], "smallest estimate that they can support": row["effect_needed"],
    }
    absent = "unknown" if row["half_width90"] is None else "none"
    lines += [f"{name:<54}{absent if value is None else significant(value, 2):>10}" for name, value in facts.items()]
    lines.append(f"{'hours on':<54}{'missing':>10}{'seeds':>10}")
    for device in prices.devices:
        costs = [prices.of(cells, device) for cells in (settlement.cells, settlement.seed_cells)]
        lines.append(f"  {device:<52}{_hours(costs[0]) or '0':>10}{_hours(costs[1]) or '0':>10}")
    return "\n".join(lines)
