"""One run of `qablate bench`: measures the parts asked for and writes table, JSON and figure."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from qablate.bench import circuits, scans, steps
from qablate.bench.presentation import print_tables, write_figure
from qablate.bench.roofline import measure_roofline
from qablate.catalog import model_info
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.provenance import provenance_of_process, utc_now
from qablate.study import Study
from qablate.training.cell import prepare_torch

PARTS = ("circuit", "scan", "step", "roofline")
ROUNDS, QUICK_ROUNDS = 7, 3
PACKAGES = ("torch", "numpy", "numba", "llvmlite", "pennylane", "pennylane-lightning", "triton")


@dataclass(frozen=True)
class BenchOptions:
    """What to measure. None means the default of the full or, with `quick`, of the short measurement.

    `qubits` and `batches` are combined with each other; `task` gives the steps their shapes; `name` is the stem of the
    files.
    """

    parts: Sequence[str] = PARTS
    models: Sequence[str] | None = None
    lengths: Sequence[int] | None = None
    qubits: Sequence[int] | None = None
    batches: Sequence[int] | None = None
    task: str = "adding_problem"
    rounds: int | None = None
    quick: bool = False
    name: str = "bench"

    def __post_init__(self) -> None:
        for name in self.models or ():
            model_info(name)
        for part in self.parts:
            if part not in PARTS:
                raise QablateError(f"bench: unknown part '{part}', allowed: {', '.join(PARTS)}")
        if Path(self.name).name != self.name:
            raise QablateError(f"bench --name: '{self.name}' is not the name of a file")
        numbers = {"--lengths": self.lengths, "--qubits": self.qubits, "--batches": self.batches,
                   "--rounds": None if self.rounds is None else [self.rounds]}
        for option, values in numbers.items():
            for value in values or ():
                if value < 1:
                    raise QablateError(f"bench {option}: {value} is not allowed, must be 1 or more")

    @property
    def n_rounds(self) -> int:
        """Rounds of every measurement."""
        return self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS)

    @property
    def circuit_cases(self) -> list[tuple[int, int]]:
        """Pairs of qubits and batch size."""
        default = circuits.QUICK if self.quick else circuits.FULL
        if self.qubits is None and self.batches is None:
            return list(default)
        qubits = self.qubits or sorted({n for n, _ in default})
        batches = self.batches or sorted({b for _, b in default})
        return [(n, b) for n in qubits for b in batches]


def run_bench(study: Study, options: BenchOptions) -> Path:
    """Measure, print the tables and write `<name>.json`, `.png` and `.svg` to `results/bench/`.

    Returns the path of the JSON. Raises QablateError for what the study or this machine cannot do.
    """
    if options.task not in study.config["tasks"]:
        raise QablateError(f"bench --task: '{options.task}' is not in study '{study.name}'")
    load_before = os.getloadavg()
    device = prepare_torch(study)
    rows: list[dict[str, Any]] = []
    for part in options.parts:
        rows += _measure(part, study, options, device)
    report = {"machine": machine(device), "load_before": load_before, "load_after": os.getloadavg(),
              "date": utc_now(), "rounds": options.n_rounds, "rows": rows}
    folder = study.results / "bench"
    path = folder / f"{options.name}.json"
    write_atomic(path, _json(report))
    write_figure(rows, path)
    print_tables(report)
    return path


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, device, threads and versions; no host name, the file may be shared."""
    process = provenance_of_process()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        **{key: process[key] for key in ("cpu", "python", "package_version", "git_commit", "git_dirty", "command")},
        "cores": os.cpu_count(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def _measure(part: str, study: Study, options: BenchOptions, device: torch.device) -> list[dict[str, Any]]:
    """The rows of one part."""
    with_memory = not options.quick and device.type == "cpu"
    rounds = options.n_rounds
    if part == "circuit":
        rows = circuits.measure_circuits(options.circuit_cases, rounds, device)
        if with_memory and circuits.MEMORY_CASE in options.circuit_cases:
            rows += circuits.measure_circuit_memory(circuits.usable_backends(device)[0])
        return rows
    if part == "scan":
        lengths = options.lengths or (scans.QUICK if options.quick else scans.FULL)
        rows = scans.measure_scans(lengths, rounds, device)
        if with_memory and scans.MEMORY_LENGTH in lengths:
            rows += scans.measure_scan_memory(scans.usable_scans(device)[0])
        return rows
    if part == "roofline":
        return measure_roofline(rounds, device)
    lengths = options.lengths or (steps.QUICK if options.quick else steps.FULL)
    return steps.measure_steps(study, options.task, options.models or study.config["models"], lengths, rounds, device)


def _json(report: dict[str, Any]) -> bytes:
    return (json.dumps(report, indent=1, allow_nan=False) + "\n").encode("ascii")
