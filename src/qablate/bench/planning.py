"""Hours that the missing cells of a study need on this machine, and the cost table that says so."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from qablate.bench.presentation import COLUMNS
from qablate.bench.steps import measure_step
from qablate.catalog import model_info
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.hours import MEASURED_ITEMS, CostRow, CostTable, Estimate, epochs_used, to_csv, with_rows
from qablate.models import ModelSettings
from qablate.plan import Plan
from qablate.provenance import provenance_of_process, utc_now
from qablate.records import Record
from qablate.study import Cell, Study
from qablate.training.cell import prepare_torch

COST_ROUNDS = 3


@dataclass(frozen=True)
class ModelPlan:
    """Missing cells of one model: how many, their hours, of how many no cost is known, and what the hours rest on."""

    model: str
    n_missing: int
    hours: float
    n_unknown: int
    sources: tuple[str, ...]


def plan_hours(study: Study, table: CostTable, device: str) -> list[ModelPlan]:
    """Sum up the missing cells of a study, model by model; hours are of one core or one GPU."""
    runs = finished_runs(study)
    missing = [cell for cell in study.cells if cell not in runs]
    used = epochs_used(runs.values())
    plans = []
    for model in study.config["models"]:
        cells = [cell for cell in missing if cell.model == model]
        found = [estimate for cell in cells if (estimate := _estimate(study, table, device, cell, used))]
        sources = tuple(sorted({estimate.source for estimate in found}))
        plans.append(ModelPlan(model, len(cells), sum(e.seconds for e in found) / 3600, len(cells) - len(found),
                               sources))
    return plans


def finished_runs(study: Study) -> dict[Cell, tuple[str, Record]]:
    """System and record of every cell that is finished, here or on another system."""
    merged = Plan(study).merged
    sources = {cell: merged.source_of(cell) for cell in study.cells}
    return {cell: (source.system, source.record) for cell, source in sources.items() if source and source.record}


def _estimate(
    study: Study, table: CostTable, device: str, cell: Cell, used: dict[tuple[str, str], float]
) -> Estimate | None:
    limit, n_items = study.config["training"]["max_epochs"], study.config["data"]["n_samples"]
    epochs = used.get((cell.model, cell.task))
    return table.estimate(device, cell.model, cell.task, cell.length, limit, n_items, epochs)


def device_name() -> str:
    """`cpu`, or the name of the GPU at hand, as the cost table has it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def print_plan(study: Study, plans: Sequence[ModelPlan], device: str) -> None:
    """Print the hours, model by model and in all, in 80 columns."""
    cores = os.cpu_count() or 1
    unit = "core hours" if device == "cpu" else "GPU hours"
    table = Table(title=f"study {study.name} on {device}: missing cells", title_justify="left")
    for column in ("model", "cells", unit):
        table.add_column(column, justify="left" if column == "model" else "right")
    for plan in plans:
        table.add_row(plan.model, str(plan.n_missing), _hours(plan.hours, plan.n_unknown))
    total = sum(plan.hours for plan in plans)
    n_missing, n_unknown = sum(plan.n_missing for plan in plans), sum(plan.n_unknown for plan in plans)
    table.add_row("all", str(n_missing), _hours(total, n_unknown), style="bold")
    console = Console(width=COLUMNS)
    console.print(table)
    if device == "cpu":
        console.print(f"{cores} cores, one cell a core: {total / cores:.2f} h", highlight=False)
    for source in sorted({_kind(source) for plan in plans for source in plan.sources}):
        console.print(f"from: {source}", highlight=False)


def _hours(hours: float, n_unknown: int) -> str:
    return f"{hours:.2f}" + (f" + {n_unknown} cells unknown" if n_unknown else "")


def _kind(source: str) -> str:
    """A source without the words that differ from length to length."""
    return re.sub(r" L=\d+, (in proportion to length|taken as just as slow)", " at the nearest length", source)


def measure_costs(study: Study, path: Path, models: Iterable[str]) -> list[CostRow]:
    """Measure the epochs of a study's models, tasks and lengths; write them into the cost table at `path`.

    CPU time on a CPU (what one free core would take), wall time on a GPU. Raises QablateError for a study whose
    models are not of the published size, because the table is of these.
    """
    settings = ModelSettings(**study.config["model"])
    if settings != ModelSettings() or study.config["data"]["n_samples"] != MEASURED_ITEMS:
        raise QablateError(f"bench --costs: study '{study.name}' has other sizes than the published; use config.yaml")
    device = prepare_torch(study)
    name = device_name() if device.type == "cuda" else "cpu"
    clock = "epoch_wall_s" if device.type == "cuda" else "epoch_cpu_s"
    used, processor = epochs_used(finished_runs(study).values()), provenance_of_process()["cpu"]
    source = f"qablate bench --costs, {utc_now()[:10]}" + (f", {processor}, 1 core" if name == "cpu" else "")
    rows = []
    table = CostTable.read(path) if path.exists() else CostTable([])
    for model in models:
        for task, settings in study.config["tasks"].items():
            for length in settings["lengths"]:
                spec = study.dataset(task, length, study.config["seeds"][0])
                row = measure_step(study, spec, model_info(model).id, COST_ROUNDS, device, compare=False, share=False)
                rows.append(CostRow(name, model, task, length, row[clock], used.get((model, task)), source))
                print(f"{model} {task} L={length}: {row[clock]:.2f} s an epoch", flush=True)
        write_atomic(path, to_csv(with_rows(table, rows)))  # after each model: hours may pass before the last
    return rows
