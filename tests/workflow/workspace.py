"""A working folder whose cells are stand-ins, and what one call of Snakemake printed there."""

import re
from dataclasses import dataclass, field

from working_folder import WorkingFolder

from qablate.study import Cell

MESSAGE = re.compile(r"^(?:Job \d+: )?train (\S+) on ([\w-]+), length (\d+), seed (\d+) \((\w+)\)$", re.M)


@dataclass
class Run:
    """What one call of Snakemake printed, and the cells it named: cell -> missing, stale or unreadable."""

    code: int
    text: str
    cells: dict[Cell, str] = field(init=False)

    def __post_init__(self) -> None:
        found = MESSAGE.findall(self.text)
        self.cells = {Cell(m, task, int(length), int(seed)): state for m, task, length, seed, state in found}

    @property
    def train_jobs(self) -> int:
        """Number of jobs of rule train in Snakemake's own table (0 without one)."""
        row = re.search(r"^train +(\d+)$", self.text, re.M)
        return int(row[1]) if row else 0


class Workspace(WorkingFolder):
    """A working folder whose cells are stand-ins."""

    def snakemake(self, *arguments: str, **environment: str) -> Run:
        """Run Snakemake here."""
        done = self.run(*arguments, **environment)
        return Run(done.returncode, done.stdout)

    def cell(self, model: str, seed: int) -> Cell:
        """A cell of the tiny study."""
        return Cell(model, "adding_problem", 16, seed)
