"""What the workflow changes in a running Snakemake: its targets and its messages. Made for Snakemake 9.27.

Snakemake tells its logger what it does (`LogEvent`, the interface of its logger plugins, seen here by a filter). When a
run starts, its settings are complete and nothing has been planned; when it counts its jobs, nothing has been done.
Beyond that interface only these attributes of `workflow` are used: `dag_settings`, `execution_settings`,
`output_settings` (all of snakemake.settings.types), `resource_settings`, `is_main_process` and `dag.needrun_jobs()`.
"""

import csv
import re
import sys
from collections.abc import Mapping
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.settings.enums import Quietness, RerunTrigger
from snakemake.utils import available_cpu_count
from snakemake_interface_logger_plugins.common import LogEvent

from qablate.plan import Plan
from qablate.study import Cell

NAMED_CELLS = 3
NOT_SHOWN = "Missing metadata for file"
"""What --report says of every job, whose results Snakemake knows nothing of."""
REASON_COLUMNS = 80 - len("Reason: ")


def default_cores(workflow: Any) -> None:
    """Let `snakemake TARGET` run without --cores: on all of this machine, unless a profile or the user says other."""
    settings = workflow.resource_settings
    if settings.cores is None and settings.nodes is None:
        settings.cores = available_cpu_count()


class Guide:
    """A filter of Snakemake's logger: aims the run at what is to be done, checks its plan, shortens its messages."""

    def __init__(self, workflow: Any, plan: Plan) -> None:
        self.workflow, self.plan = workflow, plan
        self.asked: set[Cell] | None = None

    def filter(self, record: LogRecord) -> bool:
        """Act on what Snakemake announces; return whether it is shown."""
        event = getattr(record, "event", None)
        if event == LogEvent.WORKFLOW_STARTED:
            self.aim()
        elif self.asked is not None and (event == LogEvent.RUN_INFO or record.msg == NOTHING_TO_BE_DONE_MSG):
            planned = self.check()
            if self.workflow.output_settings.dryrun:
                self._end_dry_run(record, planned)
        else:
            _shorten(record)
        if event == LogEvent.WORKFLOW_STARTED and self.workflow.output_settings.dryrun:
            return False
        return not str(record.msg).startswith(NOT_SHOWN)

    def aim(self) -> None:
        """Replace the targets that the user typed by those of Snakemake's rules (`Plan.aim`)."""
        settings = self.workflow.dag_settings
        forced = settings.forceall or settings.forcetargets or "report" in settings.forcerun
        targets, self.asked = self.plan.aim(settings.targets, forced)
        settings.targets = frozenset(targets) or frozenset({"nothing"})
        for name in ("forcerun", "until", "omit_from"):
            given = getattr(settings, name)
            rules = {name for name in given if self.workflow.is_rule(name)}
            setattr(settings, name, frozenset(rules | (self.plan.aim(given - rules)[0] if given - rules else set())))
        # Every file is written whole or not at all, and no job is in the plan whose file is there: neither a job that
        # ended while Snakemake was being stopped is a question, nor the comments and parameters of a rule.
        self.workflow.execution_settings.ignore_incomplete = True
        settings.rerun_triggers = frozenset({RerunTrigger.MTIME})

    def check(self) -> list[Cell]:
        """Return the cells that Snakemake's plan trains, in the study's order.

        Ends the program with one line unless they are those that were announced: no more, and without --until and its
        like no fewer.
        """
        asked, self.asked = self.asked or set(), None
        settings = self.workflow.dag_settings
        planned = {self.plan.study.cell(job.wildcards.model, job.wildcards.task, int(job.wildcards.length),
                                        int(job.wildcards.seed))
                   for job in self.workflow.dag.needrun_jobs() if job.rule.name == "train"}
        limited = settings.until or settings.omit_from or settings.batch
        wrong = sorted(planned - asked if limited else planned ^ asked)
        if wrong:
            more = f" and {len(wrong) - NAMED_CELLS} more" if len(wrong) > NAMED_CELLS else ""
            sys.exit(f"Snakemake's plan trains {len(planned)} cells, {len(asked)} are to be trained; it "
                     f"differs in {', '.join(cell.name for cell in wrong[:NAMED_CELLS])}{more}; "
                     f"nothing was started (is {self.plan.flags} writable?)")
        return [cell for cell in self.plan.to_train if cell in planned]

    def _end_dry_run(self, record: LogRecord, planned: list[Cell]) -> None:
        """Add a line per cell and the reports to the counts; Snakemake's own four lines per job only for -p."""
        settings, jobs = self.workflow.output_settings, self.workflow.dag.needrun_jobs()
        if not settings.printshellcmds:
            reports = (job.message for job in jobs if job.rule.name in ("report", "progress"))
            lines = [*(self.plan.describe(cell) for cell in planned), *reports, "a dry run: nothing was done"]
            record.msg = "\n".join([str(record.msg), *lines])
            settings.quiet = {Quietness.RULES, Quietness.PROGRESS}    # with these a dry run ends here


def _shorten(record: LogRecord) -> None:
    """Snakemake's reasons name every file, 400 of them for the report; on a terminal the kinds say enough."""
    reason = str(getattr(record, "reason", ""))
    if len(reason) > REASON_COLUMNS:
        record.reason = "; ".join(part.split(":")[0] for part in reason.split("; "))


class Contents(dict[str, Mapping[str, str]]):
    """What the figures and tables of the last report are, by id; Snakemake prints a parameter next to each of them."""

    @classmethod
    def read(cls, results: Path) -> "Contents":
        """Read the list that the last report wrote; empty without one."""
        try:
            with (results / "report/contents.csv").open(newline="", encoding="utf-8") as file:
                return cls({Path(row["file"]).stem: row for row in csv.DictReader(file)})
        except (OSError, ValueError, KeyError, csv.Error):
            return cls()

    def __repr__(self) -> str:
        return "report/contents.csv"

    def category(self, wildcards: Any) -> str | None:
        """Heading of the report that a file stands under."""
        return self.get(wildcards.id, {}).get("section")

    def labels(self, wildcards: Any) -> dict[str, str]:
        """Title of a file."""
        return {"title": self.get(wildcards.id, {}).get("title", wildcards.id)}

    def caption(self, wildcards: Any) -> str:
        """The caption as reStructuredText."""
        text = self.get(wildcards.id, {}).get("caption", "")
        return re.sub(r"``|`|[\\*_|]", lambda sign: "``" if "`" in sign[0] else "\\" + sign[0], text)
