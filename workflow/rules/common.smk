"""What the rules share: the study, what each cell waits for, and the settings that every job is given."""

import atexit
import csv
import functools
import gc
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.io import IOFile
from snakemake.resources import Resource

from qablate.config import difference, merge, read_yaml, with_yaml_types
from qablate.errors import QablateError
from qablate.jobs import Jobs, budget, check_request, gpu_slots
from qablate.plan import Plan
from qablate.study import Study, canonical_json


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
REPORT = str(STUDY.results / "combined_report.md")
LOGS = STUDY.results / "logs"

# The same study, in the words of the command line that every job calls; what jobs ask for is no concern of theirs.
CHANGED = {key: value for key, value in OVERRIDES.items() if key != "jobs"}
SETTINGS = shlex.join(["--config", *CONFIG_FILES, *(["--set", canonical_json(CHANGED)] if CHANGED else [])])
LAUNCHER = STUDY.config["jobs"]["launcher"]


def cell_of(wildcards):
    return STUDY.cell(wildcards.model, wildcards.task, int(wildcards.length), int(wildcards.seed))


def inputs_of(wildcards):
    """What a cell waits for. A result that stands is whole, even if Snakemake was killed before it could note that."""
    cell = cell_of(wildcards)
    waits_for = PLAN.inputs(cell)
    if not waits_for and any(Path(".snakemake/incomplete").glob("*")):
        workflow.persistence.cleanup_metadata(IOFile(str(STUDY.result_path(cell))))
    return waits_for


def max_seconds(wildcards, resources):
    """A cell stops by itself, with a checkpoint, before its job's run time ends; a signal might not reach it."""
    return f"--max-seconds {budget(resources.runtime):g}"


# Only what the profile asks for: each function costs a dry run up to half a millisecond a cell.
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


# A job finds the qablate of the environment that runs this workflow, activated or not.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), os.path.dirname(sys.executable)])


class Contents(dict):
    """What the files of the last report are, by id; Snakemake prints a parameter beside every figure and table."""

    def __repr__(self):
        return "report/contents.csv"

    def category(self, wildcards):
        return self.get(wildcards.id, {}).get("section")

    def labels(self, wildcards):
        return {"title": self.get(wildcards.id, {}).get("title", wildcards.id)}

    def caption(self, wildcards):
        """The caption as reStructuredText."""
        text = self.get(wildcards.id, {}).get("caption", "")
        return re.sub(r"``|`|[\\*_|]", lambda sign: "``" if "`" in sign[0] else "\\" + sign[0], text)


def contents_of_report():
    try:
        with open(STUDY.results / "report/contents.csv", newline="", encoding="utf-8") as file:
            return Contents({Path(row["file"]).stem: row for row in csv.DictReader(file)})
    except (OSError, ValueError, KeyError, csv.Error):
        return Contents()


# Embedded by --report. They are no outputs of a rule: partial reports write them too, and which there are depends on the
# results. As inputs of rules that are never compared with anything, they make nothing run.
CONTENTS = contents_of_report()
SHOWN = []
for folder, pattern, caption in (("figures", "{id}.png", "figure.rst"), ("tables", "{id}.csv", "table.rst")):
    if CONTENTS and (STUDY.results / folder).is_dir():
        SHOWN += [report(str(STUDY.results / folder), patterns=[pattern], category=CONTENTS.category,
                         subcategory=folder.capitalize(), labels=CONTENTS.labels,
                         caption=os.path.join(workflow.basedir, "workflow/report", caption))]


wildcard_constraints:
    model="|".join(STUDY.config["models"]),
    task="|".join(STUDY.config["tasks"]),
    length="[0-9]+",
    seed="[0-9]+",


def without_file_lists(record):
    """Snakemake's reasons name every file, 400 of them for the report; on a terminal the kinds say enough."""
    reason = str(getattr(record, "reason", ""))
    if len(reason) > 80 - len("Reason: "):
        record.reason = "; ".join(part.split(":")[0] for part in reason.split("; "))
    return True


logger.addFilter(without_file_lists)

if workflow.is_main_process:
    in_one_line(lambda: check_request(STUDY, {key: resource.raw for key, resource in SET_BY_PROFILE.items()}))
    logger.info(in_one_line(PLAN.summary))
    if unknown := in_one_line(JOBS.without_costs):
        logger.info(f"  no costs known, jobs ask for the longest run time: {', '.join(unknown)}")
    # Only a real run keeps the copies of results that no longer stand; -n, --summary and their like leave none.
    atexit.register(PLAN.discard_copies)


onstart:
    atexit.unregister(PLAN.discard_copies)


onerror:
    logger.error(f"Some jobs failed, their logs are in {LOGS}; finished cells stay. What exists: snakemake progress")
