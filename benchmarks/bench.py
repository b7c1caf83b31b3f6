"""Measures this machine: `python benchmarks/bench.py circuits | scans | steps | costs` (`--help` tells the options).

circuits, scans and steps print a table and write `results/bench/NAME.json` with medians, spread, versions and load;
costs writes the epochs of all models, tasks and lengths into the cost table.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import circuits
import scans
import steps
import torch

from qablate.catalog import model_info
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.hours import COSTS_PATH, MEASURED_ITEMS, CostRow, CostTable, to_csv, with_rows
from qablate.models import ModelSettings
from qablate.provenance import provenance_of_process, utc_now
from qablate.study import Study
from qablate.training.cell import prepare_torch

PACKAGES = ("torch", "numpy", "numba", "llvmlite", "pennylane", "pennylane-lightning", "triton")
COLUMNS = ("model", "length", "n_qubits", "batch", "contender", "cpu_ms", "cpu_ms_min", "spread", "ratio", "saved_mb",
           "circuit_share", "floor_share", "epoch_cpu_s", "epoch_wall_s", "skipped")
COST_ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement; 2 for what the study or this machine cannot do, with one line that says it."""
    options = _parser().parse_args(arguments)
    try:
        study = Study.load(options.config, {"run": {"device": options.device}} if options.device else {})
        models = [model_info(name).id for name in options.models or study.config["models"]]
        device = prepare_torch(study)
        if options.part == "costs":
            measure_costs(study, options.cost_table, models, device)
        else:
            rows = _measure(options, study, models, device)
            _print_table(rows)
            print(_write(study, options.name or options.part, rows, options.rounds, device))
    except QablateError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["circuits", "scans", "steps", "costs"])
    parser.add_argument("--config", nargs="+", default=["config.yaml"], metavar="FILE")
    parser.add_argument("--models", nargs="+", metavar="ID", help="of steps and costs (default: the study's)")
    parser.add_argument("--lengths", nargs="+", type=_at_least_one, metavar="L", help="of scans and steps")
    parser.add_argument("--qubits", nargs="+", type=_at_least_one, metavar="N", help="of circuits, with each --batches")
    parser.add_argument("--batches", nargs="+", type=_at_least_one, metavar="B", help="angle sets of a call")
    parser.add_argument("--task", default="adding_problem", help="gives steps their shapes (default: %(default)s)")
    parser.add_argument("--rounds", type=_at_least_one, default=7, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--name", help="of the JSON (default: the part's)")
    parser.add_argument("--cost-table", type=Path, default=COSTS_PATH, metavar="FILE", help="default: %(default)s")
    return parser


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not allowed, must be 1 or more")
    return number


def _measure(options: Any, study: Study, models: Sequence[str], device: torch.device) -> list[dict[str, Any]]:
    if options.part == "circuits":
        cases = circuits.CASES
        if options.qubits or options.batches:
            cases = tuple((n, b) for n in options.qubits or [6] for b in options.batches or [512])
        return circuits.measure_circuits(cases, options.rounds, device)
    if options.part == "scans":
        return scans.measure_scans(options.lengths or scans.LENGTHS, options.rounds, device)
    if options.task not in study.config["tasks"]:
        raise QablateError(f"--task: '{options.task}' is not in study '{study.name}'")
    return steps.measure_steps(study, options.task, models, options.lengths or steps.LENGTHS, options.rounds, device)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    flat = [{**row.get(steps.OURS, {}), **row} for row in rows]
    columns = [name for name in COLUMNS if any(row.get(name) is not None for row in flat)]
    for row in ({name: name for name in columns}, *flat):
        print("  ".join(f"{'' if row.get(name) is None else row[name]!s:>{max(8, len(name))}}" for name in columns))


def _write(study: Study, name: str, rows: list[dict[str, Any]], rounds: int, device: torch.device) -> Path:
    """Write the rows with what they were measured on; no host name, the file may be shared."""
    process, installed = provenance_of_process(), {dist.metadata["Name"] for dist in metadata.distributions()}
    machine = {
        **{key: process[key] for key in ("cpu", "python", "package_version", "git_commit", "git_dirty", "command")},
        "cores": os.cpu_count(), "simd": torch.backends.cpu.get_cpu_capability(), "device": device_name(device),
        "threads": torch.get_num_threads(), "load": os.getloadavg(),
        "versions": {package: metadata.version(package) for package in PACKAGES if package in installed},
    }
    report = {"machine": machine, "date": utc_now(), "rounds": rounds, "rows": rows}
    path = study.results / "bench" / f"{Path(name).name}.json"
    write_atomic(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode("ascii"))
    return path


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU, as the cost table has it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def measure_costs(study: Study, path: Path, models: Sequence[str], device: torch.device) -> None:
    """Measure the epochs of a study's models, tasks and lengths; write them into the cost table at `path`.

    CPU time on a CPU (what one free core would take), wall time on a GPU; the epochs that a row already tells stay.
    Raises QablateError for a study whose models are not of the published size, because the table is of these.
    """
    if ModelSettings(**study.config["model"]) != ModelSettings() or study.config["data"]["n_samples"] != MEASURED_ITEMS:
        raise QablateError(f"costs: study '{study.name}' has other sizes than the published; use config.yaml")
    name, processor = device_name(device), provenance_of_process()["cpu"]
    clock = "epoch_wall_s" if device.type == "cuda" else "epoch_cpu_s"
    source = f"benchmarks/bench.py costs, {utc_now()[:10]}" + (f", {processor}, 1 core" if name == "cpu" else "")
    table = CostTable.read(path) if path.exists() else CostTable([])
    epochs = {(row.device, row.model, row.task, row.length): row.epochs for row in table.rows}
    for model in models:
        for task, settings in study.config["tasks"].items():
            for length in settings["lengths"]:
                spec = study.dataset(task, length, study.config["seeds"][0])
                row = steps.measure_step(study, spec, model, COST_ROUNDS, device, compare=False, share=False)
                known = epochs.get((name, model, task, length))
                table = with_rows(table, [CostRow(name, model, task, length, row[clock], known, source)])
                print(f"{model} {task} L={length}: {row[clock]:.2f} s per epoch", flush=True)
                write_atomic(path, to_csv(table))  # after each: hours may pass before the last


if __name__ == "__main__":
    sys.exit(main())
