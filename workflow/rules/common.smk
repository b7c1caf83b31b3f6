"""What the rules share: the study, its plan, and the settings that every job is given."""

import functools
import gc
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.resources import Resource

from qablate.config import difference, merge, read_yaml, with_yaml_types
from qablate.errors import QablateError
from qablate.jobs import Jobs, budget, check_launcher, check_request, gpu_slots
from qablate.locks import take_over_lock
from qablate.plan import Plan
from qablate.status.slurm_queue import start_on_slurm
from qablate.study import Study, canonical_json
from qablate.workflow import Contents, Guide, default_cores


# A large study makes millions of objects that stay; searching them for garbage takes a tenth of its dry run.
gc.set_threshold(100_000, 50, 50)

# workflow.configfiles lists the overlays before the file they lie over, so the order is built here.
CONFIG_FILES = ["config.yaml", *(os.path.relpath(path) for path in workflow.overwrite_configfiles)]


def in_one_line(build):
    """Call `build`, or end with one line; an exception would bring Snakemake's trace with it."""
    try:
        return build()
    except QablateError as error:
        sys.exit(f"Settings ({', '.join(CONFIG_FILES)}): {error}")


def changed_settings():
    """What --config or a profile laid over the files."""
    in_files = functools.reduce(merge, (read_yaml(Path(file)) for file in CONFIG_FILES), {})
    return with_yaml_types(difference(in_files, config))


OVERRIDES = in_one_line(changed_settings)
STUDY = in_one_line(lambda: Study.load(CONFIG_FILES, OVERRIDES))
PLAN = Plan(STUDY)
JOBS = Jobs(STUDY)
LOGS = STUDY.results / "logs"
HERE = workflow.is_main_process    # not on the node of a job, which knows its cell and asks for nothing more

# The same study, in the words of the command line that every job calls; what jobs ask for is no concern of theirs.
CHANGED = {key: value for key, value in OVERRIDES.items() if key != "jobs"}
SETTINGS = shlex.join(["--config", *CONFIG_FILES, *(["--set", canonical_json(CHANGED)] if CHANGED else [])])
LAUNCHER = STUDY.config["jobs"]["launcher"]


def cell_of(wildcards):
    return STUDY.cell(wildcards.model, wildcards.task, int(wildcards.length), int(wildcards.seed))


def max_seconds(wildcards, resources):
    """A cell stops by itself, with a checkpoint, before its job's run time ends; a signal might not reach it."""
    return f"--max-seconds {budget(resources.runtime):g}"


# Only what the profile asks for: each function costs a dry run up to half a millisecond per cell.
RESOURCES = {}
if STUDY.config["jobs"]["max_minutes"]:
    RESOURCES["runtime"] = lambda wildcards, attempt: JOBS.minutes(cell_of(wildcards), attempt)
if "gpu_slots" in workflow.global_resources.keys():
    RESOURCES["gpu_slots"] = lambda wildcards: gpu_slots(wildcards.model)

# Snakemake evaluates what a profile sets as Python, anew for each cell, a fifth of a dry run; a word stays what it is.
SET_BY_PROFILE = workflow.resource_settings.overwrite_resources.get("train", {})
for key in {"slurm_account", "constraint", "qos"} & SET_BY_PROFILE.keys():
    raw = str(SET_BY_PROFILE[key].raw)
    if re.fullmatch(r"[\w.&|-]+", word := os.path.expandvars(raw)):
        SET_BY_PROFILE[key] = Resource(key, word, raw=raw)


# Jobs run the qablate of the environment that runs this workflow, activated or not, whatever else is in PATH.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])


# Embedded by --report. They are no outputs of a rule: partial reports write them too, and which there are depends on the
# results. As inputs of rules that are never compared with anything, they make nothing run.
CONTENTS = Contents.read(STUDY.results)
SHOWN = [report(str(STUDY.results / folder), patterns=[pattern], category=CONTENTS.category, labels=CONTENTS.labels,
                subcategory=folder.capitalize(), caption=os.path.join(workflow.basedir, "workflow/report", caption))
         for folder, pattern, caption in (("figures", "{id}.png", "figure.rst"), ("tables", "{id}.csv", "table.rst"))
         if CONTENTS and (STUDY.results / folder).is_dir()]


wildcard_constraints:
    model="|".join(STUDY.config["models"]),
    task="|".join(STUDY.config["tasks"]),
    length="[0-9]+",
    seed="[0-9]+",


default_cores(workflow)
if HERE:
    in_one_line(lambda: check_request(STUDY, {key: resource.raw for key, resource in SET_BY_PROFILE.items()}))
    if line := take_over_lock():
        logger.info(line)
    in_one_line(PLAN.remove_old_flags)
    logger.info(in_one_line(PLAN.summary))
    if unknown := in_one_line(JOBS.without_costs):
        logger.info(f"  no costs known, jobs ask for the longest run time: {', '.join(unknown)}")
    logger.addFilter(Guide(workflow, PLAN))


onstart:
    in_one_line(lambda: check_launcher(LAUNCHER))
    if workflow.executor_plugin.name == "slurm":
        if line := in_one_line(lambda: start_on_slurm(STUDY, {key: r.raw for key, r in SET_BY_PROFILE.items()})):
            logger.info(line)


onerror:
    logger.error(f"Some jobs failed, their logs are in {LOGS}; finished cells stay. What exists: snakemake progress")
