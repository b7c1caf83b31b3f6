"""The ablation study: every cell that config.yaml names is trained once, then reported on.

snakemake -n                        what is missing, one line per cell
snakemake --profile profiles/local  trains what is missing, then writes results/combined_report.md
snakemake progress                  reports on what exists now, trains nothing
snakemake --report study.html       the figures and tables that were reported, in one page; progress too has them
snakemake --configfile workflow/studies/demo.yaml ...    another study, laid over config.yaml
"""

from snakemake.utils import min_version

from qablate.workflow import StudyRun

min_version("9.16")


configfile: "config.yaml"


report: "workflow/report/study.rst"


RUN = StudyRun(workflow, config)
RUN.prepare()


wildcard_constraints:
    **RUN.wildcards,


onstart:
    RUN.check_executor()


onerror:
    logger.error(f"Some jobs failed, see {RUN.logs}; finished cells stay. What exists: {RUN.progress}")


include: "workflow/rules/datasets.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"


rule all:
    """What is to be trained; `qablate.plan.Plan.aim` adds the report where that is due."""
    default_target: True
    input:
        "config.yaml",  # a target without inputs would always be a job
        trained=RUN.trained,
        shown=RUN.shown,
    params:
        contents=RUN.contents,
    message:
        "nothing to do: all results for this system exist"


rule nothing:
    """The results that were asked for are there."""
    input:
        "config.yaml",


localrules:
    all,
    nothing,
    dataset,
    report,
    progress,
