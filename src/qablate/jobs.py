"""What one cell asks of a machine: run time of its job, its own budget, its share of a GPU.

Layer 0. The rules hand these numbers to Snakemake, whose executor hands them to Slurm; everything that is the same for
all cells (account, qos, memory, ...) is set in the profile.
"""

import functools
import math
import os
import time
from collections.abc import Mapping

from qablate.catalog import model_info
from qablate.errors import QablateError
from qablate.hours import CostTable, Estimate, Hours
from qablate.slurm import job_state
from qablate.study import Cell, Study

START_MINUTES = 10
"""Added to every estimate: Python, torch and compiled circuits are read from a shared file system, cold."""

STOPPED_FOR_TIME = 85
"""Exit code of a cell that stopped with a checkpoint: the same command goes on from there."""

STEP = 5
MAX_ALLOWANCE, SHARE = 180.0, 0.2
LAST_SECONDS = 60.0
"""Before the end of an allocation: left for Snakemake; a cell that would start then does not."""

LONG_OVER, MAX_DIGITS = 600.0, 12
LAUNCHING = ("RUNNING", "COMPLETING", "SUSPENDED")

REQUIRED = {
    "slurm_account": "export SBATCH_ACCOUNT=mNNNN_g: the project that is charged (GPU jobs want its _g form)",
    "constraint": "export SBATCH_CONSTRAINT=gpu, or 'gpu&hbm80g' for the GPUs with 80 GB",
}

SBATCH_OPTIONS = {"constraint": "--constraint", "qos": "--qos", "slurm_partition": "--partition", "nodes": "--nodes",
                  "gpu": "--gpus", "cpus_per_task": "--cpus-per-task", "mem_mb": "--mem"}
"""What a profile's resources are called by sbatch."""


class Jobs:
    """The jobs of a study's cells, as `jobs` in its settings has them."""

    def __init__(self, study: Study) -> None:
        self.study, self._settings = study, study.config["jobs"]
        self._limit: int | None = self._settings["max_minutes"]

    @functools.cached_property
    def hours(self) -> Hours:
        """What the cost table says of the profile's device; no result is asked, for each process says the same."""
        return Hours(self.study, CostTable.read())

    def minutes(self, cell: Cell, attempt: int) -> int | None:
        """Run time to ask for, in minutes: the estimate times the attempt, never above the limit; None without one.

        A cell of which the table knows nothing asks for the limit. A later attempt goes on from the checkpoint, and
        yet asks for more: that it was needed says that the estimate was too low.
        """
        if self._limit is None or (cost := self._cost(cell)) is None:
            return self._limit
        estimate = STEP * math.ceil((self._settings["margin"] * cost.seconds / 60 + START_MINUTES) / STEP)
        return min(self._limit, attempt * estimate)

    @property
    def longest(self) -> int | None:
        """The longest run time that a first attempt of any cell asks for, in minutes."""
        return max(self.minutes(cell, 1) or 0 for cell in self.study.cells) or None

    def without_costs(self) -> list[str]:
        """Models that ask for the longest run time because the cost table holds nothing of them on the device."""
        cells = {cell.model: cell for cell in self.study.cells} if self._limit is not None else {}
        return [model for model, cell in cells.items() if self._cost(cell) is None]

    def _cost(self, cell: Cell) -> Estimate | None:
        return None if self._settings["cost_device"] is None else self.hours.estimate(self.study.system, cell)


def budget(minutes: int) -> float:
    """Seconds that a trainer may take in a job of this run time: a fifth, at most 3 minutes, is for starting it."""
    return 60 * minutes - min(MAX_ALLOWANCE, SHARE * 60 * minutes)


def allowed_seconds(*asked: float | None, environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds a trainer may take: the least of what is asked for and what its Slurm job has left; None if endless.

    SLURM_JOB_END_TIME (seconds since 1970) is set by newer versions of Slurm and by `profiles/nersc-node/job.sh`. That
    of a job long over says nothing: a shell that was started in one may outlive it.
    """
    limits, end = [seconds for seconds in asked if seconds is not None], environment.get("SLURM_JOB_END_TIME", "")
    if end.isdecimal() and len(end) < MAX_DIGITS and (left := int(end) - time.time()) > -LONG_OVER:
        limits.append(left - LAST_SECONDS)
    return min(limits, default=None)


def gpu_slots(model: str) -> int:
    """Slots of a GPU that a cell takes: 2 for models in superposition, which keep it busier, 1 for the others."""
    return 2 if model_info(model).mixing == "quantum_superposition" else 1


def check_launcher(launcher: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a launcher `srun` outside of a Slurm job that runs: each cell would fail at once, with every attempt."""
    if launcher.split()[:1] != ["srun"]:
        return
    job = environment.get("SLURM_JOB_ID")
    state = job_state(job) if job else ""
    if state not in LAUNCHING:
        known = f"squeue does not tell the state of job {job}" if state is None else (
            f"job {job} is {state.lower() or 'over'}" if job else "there is none here")
        raise QablateError(f"jobs.launcher: srun needs an allocation, and {known}; "
                           "sbatch -t 12:00:00 profiles/nersc-node/job.sh")


def sbatch_options(resources: Mapping[str, object], minutes: int | None) -> list[str]:
    """The options of sbatch for what a profile sets for rule train, for a job of this many minutes."""
    words = [word for key, option in SBATCH_OPTIONS.items() if key in resources
             for word in (option, os.path.expandvars(str(resources[key])))]
    return [*words, *(["--time", str(minutes)] if minutes else [])]


def check_request(study: Study, resources: Mapping[str, object]) -> None:
    """Refuse jobs for Slurm that lack what no profile can know; a QablateError says what to set.

    `resources` are those that a profile sets for rule train, unevaluated. Where there are none of Slurm's and no run
    time is asked for, all is well.
    """
    lost, minutes = [key for key in REQUIRED if key not in resources], study.config["jobs"]["max_minutes"]
    if minutes is None and len(lost) == len(REQUIRED):
        return
    if lost:
        asked = "" if minutes is None else f", and jobs.max_minutes: {minutes} asks for jobs of Slurm"
        raise QablateError(f"{lost[0]}: not set{asked}; --set-resources on the command line replaces all resources of "
                           "the profile, so change them there")
    for key, remedy in REQUIRED.items():
        raw = str(resources[key])
        value = os.path.expandvars(raw).strip()
        if not value or value.startswith("$"):
            raise QablateError(f"{key}: {raw.removeprefix('$') or key} is not set; {remedy}")
    if minutes is None:
        raise QablateError("jobs.max_minutes: not set, and jobs of Slurm need it; profiles/nersc has it under config:")
