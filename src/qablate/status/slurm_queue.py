"""The Slurm queue as far as it concerns a study: one call of squeue, and none that must succeed.

The jobs of the workflow have names that begin with `syn`; their comment names rule and cell.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qablate.errors import QablateError
from qablate.jobs import Jobs, sbatch_options
from qablate.slurm import NO_ANSWER, refusal, run, stand_before
from qablate.study import Cell, Study

JOB_PREFIX = "syn"
COMMENT = "rule_train_wildcards_{model}_{task}_{length}_{seed}"
FORMAT = "%i|%T|%j|%r|%Z|%k"
FIELDS = FORMAT.count("|") + 1
TIMEOUT_S = 10.0
PAUSE_S = 5.0
NOT_SET_UP = "Could not establish a configuration source"
"""What squeue says on a machine that has Slurm's programs but belongs to no cluster."""

RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SUSPENDED", "RESV_DEL_HOLD", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Job:
    """One Slurm job of a cell; `reason` is Slurm's, of a job that waits."""

    id: str
    state: Literal["running", "queued"]
    reason: str = ""


@dataclass(frozen=True)
class Queue:
    """Jobs by cell; `others` are jobs of this study's kind that belong to no cell of it (rules, other folders).

    `reachable` is False where there is no Slurm or it did not answer; `note` says the latter.
    """

    jobs: dict[Cell, Job] = field(default_factory=dict)
    others: int = 0
    reachable: bool = False
    note: str = ""


def start_on_slurm(study: Study, resources: Mapping[str, object]) -> str:
    """Make ready for jobs of a study; return a line on those of an earlier start that are still in the queue, or "".

    Waits while Slurm does not answer. Jobs that Slurm would refuse are a QablateError. `resources` are those that a
    profile sets for rule train, unevaluated.
    """
    queue = ask_queue(study.cells)
    if NO_ANSWER.search(queue.note):
        print(f"{queue.note}; asking again until Slurm answers", file=sys.stderr)
    while NO_ANSWER.search(queue.note):
        time.sleep(PAUSE_S)
        queue = ask_queue(study.cells)
    account = os.path.expandvars(str(resources.get("slurm_account", "")))
    options = sbatch_options(resources, Jobs(study).longest)
    if not queue.jobs and (reason := refusal(account, options)):    # no refusal for the number of jobs at work
        raise QablateError(f"Slurm refuses these jobs: {reason}")
    stand_before({COMMENT.format(**vars(cell)): job.id for cell, job in queue.jobs.items()})
    return f"  {len(queue.jobs)} jobs of an earlier start are still in the queue: waited for" if queue.jobs else ""


def ask_queue(cells: Iterable[Cell]) -> Queue:
    """Ask Slurm for this user's jobs; those of a cell were submitted from the working folder."""
    if shutil.which("squeue") is None:
        return Queue()
    done = run(["squeue", "--me", "--noheader", "--format", FORMAT], timeout=TIMEOUT_S)
    if done.returncode and NOT_SET_UP in done.stderr:
        return Queue(note="queue unknown: squeue is here, but belongs to no cluster")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Queue(note=f"queue unknown: {last.rpartition('error: ')[2].removeprefix('squeue: ')[:65]}")
    names = {COMMENT.format(**vars(cell)): cell for cell in cells}
    jobs: dict[Cell, Job] = {}
    others, here = 0, Path.cwd().resolve()
    for line in done.stdout.splitlines():
        parts = [part.strip() for part in line.split("|", FIELDS - 1)]
        if len(parts) != FIELDS or not parts[2].startswith(JOB_PREFIX) or parts[1] not in (*RUNNING, *WAITING):
            continue
        number, state, _, reason, place, comment = parts
        cell = names.get(comment) if Path(place).resolve() == here else None
        if cell is None:
            others += 1
        elif state in RUNNING:    # of two jobs of one cell the running one counts
            jobs[cell] = Job(number, "running")
        else:
            jobs.setdefault(cell, Job(number, "queued", reason))
    return Queue(jobs, others, reachable=True)
