"""The state of every cell of a study at one moment: from results, logs, checkpoints and the Slurm queue.

What is finished and what a dry run would train is decided by `qablate.plan`; this module adds what is under way.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qablate.hours import CostTable, Hours, TimeLeft
from qablate.logs import Log, duration, log_path, read_tail
from qablate.plan import Plan
from qablate.results import State, has_checkpoint
from qablate.status.slurm_queue import Queue, ask_queue
from qablate.study import Cell, Study

STATES = (State.DONE, State.RUNNING, State.QUEUED, State.CHECKPOINT, State.FAILED, State.STALE, State.UNREADABLE,
          State.MISSING)


@dataclass(frozen=True)
class CellStatus:
    """One cell: its state, the system that made it or is to, and how far it came.

    `to_train`: whether a dry run on this system lists it. `epoch`: of a checkpoint the epoch under way when it was
    written, else the last one that the log shows; None where nothing says it. `outcome`: status of the result of a
    finished cell. `left` is None for a finished cell and where no cost is known.
    """

    cell: Cell
    state: State
    system: str
    to_train: bool = False
    epoch: int | None = None
    reason: str = ""
    outcome: str = ""
    job: str = ""
    left: TimeLeft | None = None


@dataclass(frozen=True)
class Survey:
    """All cells of a study in its order, the queue as it answered, and the costs that hours were taken from.

    `remarks`: a line for each declared folder that holds nothing.
    """

    study: Study
    cells: tuple[CellStatus, ...]
    queue: Queue
    costs: Hours
    taken_at: float
    remarks: tuple[str, ...] = ()

    @property
    def systems(self) -> list[str]:
        """Systems that made a cell or are to, in the declared order, others by name."""
        return sorted({status.system for status in self.cells}, key=self.study.system_rank)

    def of(self, **wanted: str) -> list[CellStatus]:
        """The cells of one system, model or task, or of a combination."""
        return [status for status in self.cells
                if wanted.items() <= {**vars(status.cell), "system": status.system}.items()]


def counts(cells: Iterable[CellStatus]) -> dict[str, int]:
    """Number of cells in each state, all states named."""
    found = Counter(status.state for status in cells)
    return {state: found[state] for state in STATES}


def hours(cells: Iterable[CellStatus]) -> tuple[TimeLeft, int]:
    """Sum of the hours left, and how many unfinished cells have no known cost."""
    open_cells = [status for status in cells if status.state != "done"]
    known = [status.left for status in open_cells if status.left is not None]
    total = TimeLeft(sum(left.expected for left in known), sum(left.at_most for left in known))
    return total, len(open_cells) - len(known)


def survey(study: Study, table: CostTable, devices: Mapping[str, str] | None = None, ask_slurm: bool = True) -> Survey:
    """Look at everything once; nothing is changed. `devices` name the cost table's device of systems."""
    plan, now = Plan(study), time.time()
    runs = [(source.system, source.record) for source in map(plan.merged.source_of, study.cells) if source]
    costs = Hours(study, table, runs, devices)
    queue = ask_queue(study.cells) if ask_slurm else Queue()
    if ask_slurm and not (queue.reachable or queue.note) and study.config["jobs"]["max_minutes"]:
        queue = Queue(note="queue unknown: there is no squeue here")    # though the settings are for Slurm
    cells = tuple(_status_of(cell, plan, queue, costs, now) for cell in study.cells)
    return Survey(study, cells, queue, costs, now, plan.merged.remarks)


def _status_of(cell: Cell, plan: Plan, queue: Queue, costs: Hours, now: float) -> CellStatus:
    source, study = plan.merged.source_of(cell), plan.study
    if source is not None:
        return CellStatus(cell, State.DONE, source.system, outcome=source.status)
    judged, system = plan.state(cell), study.assigned_to(cell) or study.system
    tail = read_tail(log_path(study.results, cell.name))
    state, facts = _without_job(cell, tail, plan, system, now)
    if job := queue.jobs.get(cell):
        state = State(job.state)
        facts = {"job": job.id, "epoch": tail.last_epoch or tail.saved_epoch, "reason": job.reason}
    # epochs that need not be run again: all printed ones of a live cell, else those before the checkpoint's
    saved = 0 if state in (State.MISSING, State.STALE, State.UNREADABLE) else max((tail.saved_epoch or 1) - 1, 0)
    done = max(tail.last_epoch, saved) if state is State.RUNNING else saved
    left = costs.time_left(system, cell, done, tuple(tail.seconds))
    return CellStatus(cell, state, system, judged.state != "assigned", left=left, **facts)


def _without_job(cell: Cell, tail: Log, plan: Plan, system: str, now: float) -> tuple[State, dict[str, Any]]:
    """What log and checkpoint say, else what a dry run would."""
    study, judged = plan.study, plan.state(cell)
    if tail.is_running(study.config["run"]["checkpoint_interval_s"], now):
        return State.RUNNING, {"epoch": tail.last_epoch or tail.saved_epoch}
    if tail.name == "fail":
        return State.FAILED, {"epoch": tail.saved_epoch, "reason": tail.reason or "no reason logged"}
    replaced = judged.state in (State.STALE, State.UNREADABLE)    # as the dry run and the report say
    if not replaced and has_checkpoint(study, cell):
        silence = tail.silent_for(now)
        why = "no log" if silence is None else f"silent for {duration(silence)}"
        why = f"stopped: {tail.reason}" if tail.name == "stop" else "its process is gone" if tail.process_gone else why
        return State.CHECKPOINT, {"epoch": tail.saved_epoch, "reason": why}
    for verdict in plan.merged.by_cell[cell]:    # one on a system that is not to train it is of no use
        if verdict.status == "unfinished" and verdict.system == system != study.system:
            return State.CHECKPOINT, {"reason": verdict.detail}
    never = "started, no checkpoint" if tail.event else "never started"
    gone = "finished earlier; result file is gone" if tail.name == "result" else never
    return State.MISSING if judged.state is State.ASSIGNED else judged.state, {"reason": judged.reason or gone}
