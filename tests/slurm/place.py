"""A working folder from which jobs are started, small cells for it, and what they ask of Slurm."""

import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

import yaml
from slurm_cluster import Cluster
from working_folder import WorkingFolder, wait_for

from qablate.results import state_of
from qablate.study import Cell

SMALL = {
    "name": "small",
    "models": ["1b", "2d", "3a", "3b"],
    "seeds": [1, 2],
    "data": {"n_samples": 200},
    "tasks": {"adding_problem": {"lengths": [16], "placement": "extremes"}},
    "model": {"n_qubits": 3, "n_layers": 1, "d_model": 16, "d_state": 4, "n_heads": 2},
    "training": {"recipe": "small", "max_epochs": 4, "patience": 4},
    "run": {"checkpoint_interval_s": 1},
    "legacy_metric": False,
}
ACCOUNT = {"SBATCH_ACCOUNT": "m0000_g", "SBATCH_CONSTRAINT": "gpu&hbm80g"}
QUICKLY = ("--profile", "profiles/nersc", "--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "5",
           "--max-jobs-per-second", "10")
"""The profile, less patient than on a machine that others use."""


@dataclass
class Place(WorkingFolder):
    """A working folder from which jobs are started."""

    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start Snakemake, and note that it was started."""
        self.started.append(super().start(*arguments, **options))
        return self.started[-1]

    def finish(self, seconds: float) -> None:
        """Wait for the end of what was started last: all cells are done."""
        wait_for(lambda: self.started[-1].poll() is not None, "the end of the run", seconds)
        assert self.started[-1].returncode == 0, self.printed
        assert self.done() == set(self.study.cells), self.printed

    def use(self, cluster: Cluster) -> None:
        """Let what runs here find this Slurm, and the account and constraint that its jobs ask for."""
        path = f"{self.folder}/bin{os.pathsep}{cluster.environment['PATH']}"
        self.environment |= {**cluster.environment, **ACCOUNT, "PATH": path, "PWD": str(self.folder)}

    def done(self) -> set[Cell]:
        """Cells whose results stand."""
        study = self.study
        return {cell for cell in study.cells if state_of(study, cell).state == "done"}

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a file of this folder; what is to be replaced must be there."""
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def starts_and_ends(self) -> list[dict[str, Any]]:
        """What the stand-ins noted: cell, device, and when each began and ended."""
        return [yaml.safe_load(path.read_text()) for path in sorted(self.folder.glob("noted/*.json"))]
