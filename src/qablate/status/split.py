"""A division of the missing cells among the study's systems, so that all end at about the same time.

Cells of one model and task go together, because that is what `assign:` of a config says in one line. Groups are taken
from the dearest down, each given to the system that would then finish first (list scheduling on unrelated machines).
Cells that have begun stay where they are and count as load.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from qablate.status.survey import CellStatus, Survey
from qablate.study import Cell

MOVABLE = ("missing", "failed", "stale", "unreadable")


@dataclass
class Share:
    """What one system is to train: cells, their hours, and the wall-clock hours with its number of slots."""

    system: str
    slots: int
    cells: list[Cell] = field(default_factory=list)
    hours: float = 0.0
    longest: float = 0.0

    @property
    def wall_hours(self) -> float:
        """Hours until its last cell ends, all slots busy; at least those of its longest cell."""
        return max(self.hours / self.slots, self.longest)

    def with_group(self, hours: list[float]) -> float:
        """Wall-clock hours if it also took cells of these hours."""
        return max((self.hours + sum(hours)) / self.slots, self.longest, *hours)

    def add(self, cells: list[Cell], hours: list[float]) -> None:
        """Take cells of these hours."""
        self.cells += cells
        self.hours += sum(hours)
        self.longest = max(self.longest, *hours)


@dataclass(frozen=True)
class Split:
    """Shares by system; `unknown` cells of which no system's cost is known stay unassigned."""

    shares: tuple[Share, ...]
    unknown: tuple[Cell, ...]
    overrides: tuple[Mapping[str, object], ...]

    def to_yaml(self) -> str:
        """The division as the `assign:` of a config, an override a line, in 80 columns."""
        if not self.overrides:
            return "assign: {}\n"
        dumped = (yaml.safe_dump(rule, default_flow_style=True, sort_keys=False, width=60) for rule in self.overrides)
        return "assign:\n  overrides:\n" + "".join(
            f"    - {text.rstrip().replace(chr(10), chr(10) + ' ' * 6)}\n" for text in dumped)


def suggest_split(survey: Survey, slots: Mapping[str, int] | None = None) -> Split:
    """Divide the cells that have not begun; `slots`: cells that a system trains side by side, 1 if not given."""
    study, slots = survey.study, slots or {}
    taking_part = {*(study.config["systems"] or {}), *survey.systems, *survey.costs.devices, *slots}
    shares = {system: Share(system, slots.get(system, 1)) for system in sorted(taking_part)}
    begun = [status for status in survey.cells if status.state not in ("done", *MOVABLE)]
    for status in begun:
        shares[status.system].add([status.cell], [status.left.expected if status.left else 0.0])
    owners: dict[tuple[str, str], str] = {}
    lost: list[Cell] = []
    for key, group in _dearest_first(survey):
        offers = {system: cost for system in shares if (cost := _cost(survey, system, group)) is not None}
        if not offers:
            lost += [status.cell for status in group]
            continue
        owners[key] = min(offers, key=lambda system: (shares[system].with_group(offers[system]), system))
        shares[owners[key]].add([status.cell for status in group], offers[owners[key]])
    return Split(tuple(shares.values()), tuple(lost), tuple(_as_overrides(owners, begun)))


def _dearest_first(survey: Survey) -> list[tuple[tuple[str, str], list[CellStatus]]]:
    groups: dict[tuple[str, str], list[CellStatus]] = {}
    for status in survey.cells:
        if status.state in MOVABLE:
            groups.setdefault((status.cell.model, status.cell.task), []).append(status)
    systems = survey.costs.tables

    def cheapest(group: list[CellStatus]) -> float:
        costs = [sum(cost) for system in systems if (cost := _cost(survey, system, group)) is not None]
        return min(costs, default=0.0)

    return sorted(groups.items(), key=lambda item: (-cheapest(item[1]), item[0]))


def _cost(survey: Survey, system: str, group: list[CellStatus]) -> list[float] | None:
    """Hours of each cell of a group on a system; None if one of them is unknown there."""
    found = []
    for status in group:
        left = survey.costs.time_left(system, status.cell)
        if left is None:
            return None
        found.append(left.expected)
    return found


def _as_overrides(owners: Mapping[tuple[str, str], str], begun: list[CellStatus]) -> list[dict[str, object]]:
    """Write the division as overrides: models of one task and system in one line, then what has begun elsewhere."""
    models: dict[tuple[str, str], list[str]] = {}
    for (model, task), system in sorted(owners.items()):
        models.setdefault((task, system), []).append(model)
    overrides: list[dict[str, object]] = [
        {"system": system, "tasks": [task], "models": chosen} for (task, system), chosen in sorted(models.items())
    ]
    stays: dict[tuple[str, Cell], list[int]] = {}
    for status in begun:
        cell = status.cell
        if owners.get((cell.model, cell.task), status.system) != status.system:
            stays.setdefault((status.system, Cell(cell.model, cell.task, cell.length, 0)), []).append(cell.seed)
    overrides += [{"system": system, "tasks": [cell.task], "models": [cell.model], "lengths": [cell.length],
                   "seeds": sorted(seeds)} for (system, cell), seeds in sorted(stays.items())]
    return overrides
