"""The ablation study: every cell that config.yaml names is trained once, then reported on.

snakemake -n                        what is missing, one message a cell
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


# The cells stand here beside the report, since a report that is up to date would hide a cell deleted below it. Before
# there is one they need not: it waits for them itself, and a list of 40,000 takes 65 MB.
rule all:
    default_target: True
    input:
        cells=lambda wildcards: PLAN.targets if os.path.exists(REPORT) or not PLAN.complete_here else [],
        report=lambda wildcards: [REPORT] if PLAN.complete_here else [],
        shown=SHOWN,
    params:
        contents=CONTENTS,
    message:
        "what this system is to have is there"
