"""What the workflow adds to Snakemake: its settings, targets, checks and messages. Made for Snakemake 9.27.

Everything here that is not in Snakemake's manual is in this file. Its logger is told what happens (`LogEvent`, the
interface of its logger plugins, seen here by a filter): when a run starts, its settings are complete and nothing has
been planned; when it counts its jobs, nothing has been done. Beyond that these attributes of `workflow` are used:
`overwrite_configfiles`, `overwrite_workdir`, `workdir_init`, `is_main_process`, `is_rule`, `basedir`, `main_snakefile`,
`global_resources`, `executor_plugin`, `resource_settings`, `dag_settings`, `execution_settings`, `output_settings` (all
of snakemake.settings.types) and `dag.needrun_jobs()`; and of `FilePersistence` the two methods that remove locks.
"""

import argparse
import contextlib
import csv
import functools
import gc
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.io import report
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence
from snakemake.resources import Resource
from snakemake.settings.enums import Quietness, RerunTrigger
from snakemake.utils import available_cpu_count
from snakemake_interface_logger_plugins.common import LogEvent

from qablate.config import difference, leaves, options_of, profile_settings, read_files, with_yaml_types
from qablate.errors import QablateError
from qablate.files import SNAKEFILE_FOLDER
from qablate.jobs import Jobs, budget, check_launcher, check_request, gpu_slots
from qablate.locks import take_over_lock
from qablate.plan import NOT_IN_REPORT, Plan
from qablate.records import canonical_json
from qablate.status.slurm_queue import start_on_slurm
from qablate.study import Cell, Study

NAMED_CELLS = 3
NOT_SHOWN = ("Missing metadata for file", "Adding ")
"""What --report says of every job, of whose results Snakemake knows nothing, and of every figure and table."""
REASON_COLUMNS = 80 - len("Reason: ")
PLAIN_WORD = re.compile(r"[\w.&|-]+")
SHOWN = {"figures": ("{id}.png", "figure.rst"), "tables": ("{id}.csv", "table.rst")}
"""Folders of a report that --report embeds: their files, and the template of the captions."""


class StudyRun:
    """One study in one Snakemake process: what the rules name, and what is checked before anything is planned.

    Settings that cannot be run end the program with one line: an exception would bring Snakemake's trace with it.
    """

    def __init__(self, workflow: Any, config: Mapping[str, Any]) -> None:
        # A large study makes millions of objects that stay; searching them for garbage takes a fifth of its dry run.
        gc.set_threshold(100_000, 50, 50)
        self.workflow = workflow
        # workflow.configfiles lists the overlays before the file they lie over, so the order is built here.
        self.overlays = [os.path.abspath(path) for path in workflow.overwrite_configfiles]
        self.config_files = ["config.yaml", *map(os.path.relpath, self.overlays)]
        with self.errors_in_one_line():
            given = difference(read_files(self.config_files), config)    # by --config or a profile
            self.overrides = with_yaml_types(given)
            self.study = Study.load(self.config_files, self.overrides)
        self.plan, self.jobs = Plan(self.study), Jobs(self.study)
        self.logs = self.study.results / "logs"
        self.contents = Contents.read(self.study.results)
        self.set_by_profile = workflow.resource_settings.overwrite_resources.get("train", {})

    @contextlib.contextmanager
    def errors_in_one_line(self) -> Iterator[None]:
        """End the program with one line that names the settings' files."""
        try:
            yield
        except QablateError as error:
            sys.exit(f"Settings ({', '.join(self.config_files)}): {error}")

    def prepare(self) -> None:
        """Check what was asked for, take over a dead owner's lock and say what is done and missing."""
        # Jobs run the qablate of this environment, activated or not, whatever else is in PATH.
        os.environ[SNAKEFILE_FOLDER] = str(self.workflow.basedir)
        os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        asked = self.workflow.resource_settings
        if asked.cores is None and asked.nodes is None:    # `snakemake TARGET` without --cores: on all of this machine
            asked.cores = available_cpu_count()
        settle_words(self.set_by_profile)
        if not self.workflow.is_main_process:    # a job on its node knows its cell and asks for nothing more
            return
        with self.errors_in_one_line():
            self.check_profile()
            check_request(self.study, self.requested)
            remove_own_locks_alone()
            lock = take_over_lock()
            self.plan.remove_old_flags()
            lines = [lock, self.plan.summary(), *self.overruled()]
            own, beside = Path(__file__).parent, Path(self.workflow.basedir) / "src/qablate"
            if beside.is_dir() and not beside.samefile(own):    # a second clone or worktree without an environment
                lines.append(f"  cells run the code of {own}, not that beside this Snakefile")
            if unknown := self.jobs.without_costs():
                lines.append(f"  no costs known, jobs ask for the longest run time: {', '.join(unknown)}")
        for line in filter(None, lines):
            logger.info(line)
        logger.addFilter(Guide(self))

    def check_profile(self) -> None:
        """Refuse --config next to a profile with a config: block, all of which it replaces; QablateError if any."""
        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE"))
        options.add_argument("--workflow-profile")
        given = options.parse_known_args(sys.argv[1:])[0]
        for profile in filter(None, (given.workflow_profile, given.profile)):
            there = os.path.join(self.workflow.basedir, profile)    # --directory has left the folder it was typed in
            if not (block := profile_settings(there if os.path.exists(there) else profile)):
                continue
            if lost := ", ".join(dict(leaves(difference(self.study.config, block)))):
                raise QablateError(f"{lost}: lost, since --config on the command line replaces the whole config block "
                                   f"of {profile}; give settings in a file with --configfile, or change the profile")
            return

    def overruled(self) -> Iterator[str]:
        """Say which settings of overlays do not count, because a profile or --config has others."""
        in_overlays = dict(leaves(read_files(self.overlays)))
        for key, value in leaves(self.overrides):
            if key in in_overlays:
                yield f"  {key}: {value} by a profile or --config, not {in_overlays[key]}"

    def check_executor(self) -> None:
        """Refuse, before the first job, an executor that could start none; say which jobs are still in its queue."""
        with self.errors_in_one_line():
            check_launcher(self.study.config["jobs"]["launcher"])
            if self.workflow.executor_plugin.name == "slurm" and (line := start_on_slurm(self.study, self.requested)):
                logger.info(line)

    @property
    def requested(self) -> dict[str, object]:
        """What the profile sets for rule train, unevaluated."""
        return {key: resource.raw for key, resource in self.set_by_profile.items()}

    @property
    def settings(self) -> str:
        """The same study in the words of the command line, for a rule's `shell`, where braces are doubled."""
        changed = {key: value for key, value in self.overrides.items() if key != "jobs"}    # no concern of a job's
        return _shell_text(shlex.join(options_of(self.config_files, changed)))

    @property
    def progress(self) -> str:
        """The command that reports on what exists of this study."""
        folder, overlays = self.workflow.overwrite_workdir, self.config_files[1:]
        if folder:    # it is typed where the run was started, from where relative paths lead elsewhere
            folder, overlays = self.workflow.workdir_init, self.overlays
        changed = [f"{key}={value if isinstance(value, str) else canonical_json(value)}"
                   for key, value in self.overrides.items() if key not in NOT_IN_REPORT]
        snakefile = self.workflow.main_snakefile
        found = not folder and Path(snakefile).parent.samefile(".")    # where Snakemake looks for it by itself
        return shlex.join(["snakemake", "progress", *([] if found else ["--snakefile", snakefile]),
                           *(["--directory", folder] if folder else []),
                           *(["--configfile", *overlays] if overlays else []),
                           *(["--config", *changed] if changed else [])])

    @property
    def launcher(self) -> str:
        """Words before the command of a cell, for a rule's `shell`."""
        return _shell_text(self.study.config["jobs"]["launcher"])

    @property
    def wildcards(self) -> dict[str, str]:
        """What a wildcard may stand for."""
        config = self.study.config
        return {"model": "|".join(config["models"]), "task": "|".join(config["tasks"]), "length": "[0-9]+",
                "seed": "[0-9]+"}

    def cell(self, wildcards: Any) -> Cell:
        """The cell of a job."""
        return self.study.cell(wildcards.model, wildcards.task, int(wildcards.length), int(wildcards.seed))

    def dataset(self, wildcards: Any) -> list[str]:
        """What a cell waits for: its dataset, if that is missing."""
        return self.plan.inputs(self.cell(wildcards)) if self.workflow.is_main_process else []

    def reason(self, wildcards: Any) -> str:
        """What is trained and why."""
        return self.plan.describe(self.cell(wildcards)) if self.workflow.is_main_process else ""

    def trained(self, wildcards: Any) -> list[str]:
        """The flags of all cells that are to be trained."""
        return [self.plan.flag(cell) for cell in self.plan.to_train]

    @functools.cached_property
    def resources(self) -> dict[str, Any]:
        """Resources of a cell that the profile asks for; each function costs a dry run half a millisecond per cell."""
        resources: dict[str, Any] = {}
        if self.study.config["jobs"]["max_minutes"]:
            resources["runtime"] = lambda wildcards, attempt: self.jobs.minutes(self.cell(wildcards), attempt)
        if "gpu_slots" in self.workflow.global_resources:
            resources["gpu_slots"] = lambda wildcards: gpu_slots(wildcards.model)
        return resources

    @property
    def max_seconds(self) -> Any:
        """Ends a cell, with a checkpoint, before its job's run time ends; a signal might not reach it."""
        if "runtime" not in self.resources:
            return ""
        return lambda wildcards, resources: f"--max-seconds {budget(resources.runtime):g}"

    @property
    def shown(self) -> list[Any]:
        """Figures and tables of the last report, which --report embeds.

        They are no outputs of a rule: partial reports write them too, and which there are depends on the results. As
        inputs of rules that are never compared with anything, they make nothing run.
        """
        captions = os.path.join(self.workflow.basedir, "workflow/report")
        return [report(str(self.study.results / folder), patterns=[pattern], category=self.contents.category,
                       labels=self.contents.labels, subcategory=folder.capitalize(),
                       caption=os.path.join(captions, caption))
                for folder, (pattern, caption) in SHOWN.items()
                if self.contents and (self.study.results / folder).is_dir()]


@functools.cache
def remove_own_locks_alone() -> None:
    """Let a run that ends remove its own lock; Snakemake removes the folder of locks, a running study's included.

    `--unlock` removes them all, as before.
    """

    def remove(persistence: FilePersistence) -> None:
        for path in persistence._lockfile.values():
            Path(path).unlink(missing_ok=True)
        persistence._lockfile.clear()

    FilePersistence.cleanup_locks = FilePersistence._delete_locks
    FilePersistence._delete_locks = remove


def settle_words(resources: dict[str, Any]) -> None:
    """Evaluate plain words of a profile once; Snakemake does it anew per cell, as Python, a fifth of a dry run."""
    for key in {"slurm_account", "constraint", "qos"} & resources.keys():
        raw = str(resources[key].raw)
        if PLAIN_WORD.fullmatch(word := os.path.expandvars(raw)):
            resources[key] = Resource(key, word, raw=raw)


def in_no_slurm_job() -> bool:
    """Whether this machine submits Slurm jobs and this process is in none: a login node, as a rule."""
    return shutil.which("sbatch") is not None and "SLURM_JOB_ID" not in os.environ


def _shell_text(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


class Guide:
    """A filter of Snakemake's logger: aims the run at what is to be done, checks its plan, shortens its messages."""

    def __init__(self, run: StudyRun) -> None:
        self.workflow, self.plan, self.cell = run.workflow, run.plan, run.cell
        self.errors_in_one_line = run.errors_in_one_line
        self.asked: set[Cell] | None = None

    def filter(self, record: LogRecord) -> bool:
        """Act on what Snakemake announces; return whether it is shown."""
        event, dryrun = getattr(record, "event", None), self.workflow.output_settings.dryrun
        if event == LogEvent.WORKFLOW_STARTED:
            self.aim()
            return not dryrun
        if self.asked is not None and (event == LogEvent.RUN_INFO or record.msg == NOTHING_TO_BE_DONE_MSG):
            planned = self.check()
            if dryrun:
                self._end_dry_run(record, planned)
            elif planned and self.workflow.executor_plugin.name == "local" and in_no_slurm_job():
                logger.info("  in no Slurm job: cells are trained on this machine, even if it is a login node; "
                            "--profile profiles/nersc submits them")
        elif len(reason := str(getattr(record, "reason", ""))) > REASON_COLUMNS:
            # Snakemake's reasons name every file, 400 of them for the report; on a terminal the kinds say enough.
            record.reason = "; ".join(part.split(":")[0] for part in reason.split("; "))
        return not str(record.msg).startswith(NOT_SHOWN)

    def aim(self) -> None:
        """Replace the targets that the user typed by those of Snakemake's rules (`Plan.aim`)."""
        settings = self.workflow.dag_settings
        forced = settings.forceall or settings.forcetargets or "report" in settings.forcerun
        with self.errors_in_one_line():
            if settings.batch:
                raise QablateError("--batch: finished cells leave the plan, so that its parts change; to share cells "
                                   "between systems use `assign` (docs/settings.md)")
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
        jobs = self.workflow.dag.needrun_jobs()
        planned = {self.cell(job.wildcards) for job in jobs if job.rule.name == "train"}
        limited = settings.until or settings.omit_from
        kept_out = {cell for cell in asked - planned if not limited or os.path.lexists(self.plan.flag(cell))}
        wrong = sorted(planned - asked | kept_out)
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


class Contents(dict[str, Mapping[str, str]]):
    """What the figures and tables of the last report are, by id; Snakemake prints a parameter next to each of them."""

    @classmethod
    def read(cls, results: Path) -> "Contents":
        """Read the list that the last report wrote; empty without one. Snakemake sorts sections, hence numbers."""
        try:
            with (results / "report/contents.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            sections = list(dict.fromkeys(row["section"] for row in rows))
            numbered = {name: f"{place:02} {name}" for place, name in enumerate(sections, 1)}
            return cls({Path(row["file"]).stem: {**row, "section": numbered[row["section"]]} for row in rows})
        except (OSError, ValueError, KeyError, csv.Error):
            return cls()

    def __repr__(self) -> str:
        return "report/contents.csv"

    def category(self, wildcards: Any) -> str | None:
        """Heading of the report that a file is under."""
        return self.get(wildcards.id, {}).get("section")

    def labels(self, wildcards: Any) -> dict[str, str]:
        """Title of a file."""
        return {"title": self.get(wildcards.id, {}).get("title", wildcards.id)}

    def caption(self, wildcards: Any) -> str:
        """The caption as reStructuredText."""
        text = self.get(wildcards.id, {}).get("caption", "")
        return re.sub(r"``|`|[\\*_|]", lambda sign: "``" if "`" in sign[0] else "\\" + sign[0], text)
