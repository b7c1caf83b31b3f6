"""The ablation study: every cell that config.yaml names is trained once, then reported on.

snakemake -n                        what is missing, one line per cell
snakemake --profile profiles/local  trains what is missing, then writes results/combined_report.md
snakemake progress                  reports on what exists now, trains nothing
snakemake --report study.html       the figures and tables that were reported, in one page; progress too has them
snakemake --configfile workflow/studies/demo.yaml ...    another study, laid over config.yaml
"""

from snakemake.utils import min_version

min_version("9.16")


configfile: "config.yaml"


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analysis.smk"


# With the report, where that is due: qablate.plan.Plan.aim chooses.
rule all:
    default_target: True
    input:
        CONFIG_FILES,    # a target without inputs would always be a job
        trained=lambda wildcards: [PLAN.flag(cell) for cell in PLAN.to_train],
        shown=SHOWN,
    params:
        contents=CONTENTS,
    message:
        "nothing to do: all results for this system exist"
