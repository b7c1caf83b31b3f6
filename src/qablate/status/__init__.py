"""What a study is doing: the state of every cell, hours left. Neither torch nor pandas is needed.

`survey(study, table)` looks once; `qablate.status.screen` prints it.
"""

from qablate.status.slurm_queue import Job, Queue
from qablate.status.survey import STATES, CellStatus, Survey, counts, hours, survey

__all__ = ["STATES", "CellStatus", "Job", "Queue", "Survey", "counts", "hours", "survey"]
