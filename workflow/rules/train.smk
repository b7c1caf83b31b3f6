rule train:
    """Train one cell: one model on one task at one length with one seed."""
    input:
        lambda wildcards: PLAN.inputs(cell_of(wildcards)) if HERE else [],
    output:
        # Not the result itself: Snakemake deletes the outputs of a job that is to run or that failed.
        touch(PLAN.flags / "{model}_{task}_L{length}_seed{seed}"),
    params:
        reason=lambda wildcards: PLAN.describe(cell_of(wildcards)) if HERE else "",
        # Not under `log:`, whose files Snakemake deletes before a job: a cell that resumes keeps its whole log.
        log=f"{LOGS}/train/{{model}}_{{task}}_L{{length}}_seed{{seed}}.log",
        max_seconds=max_seconds if "runtime" in RESOURCES else "",
    message:
        "{params.reason}"
    threads: STUDY.config["run"]["threads"]
    resources:
        **RESOURCES,
    shell:
        "log={params.log}; mkdir -p $(dirname $log); "
        "{LAUNCHER} qablate train {SETTINGS} --model {wildcards.model} --task {wildcards.task}"
        " --length {wildcards.length} --seed {wildcards.seed} --output {STUDY.result_folder}/synthetic_"
        "{wildcards.model}_{wildcards.task}_L{wildcards.length}_seed{wildcards.seed}_results.json"
        " {params.max_seconds} >> $log 2>&1"
        " || {{ code=$?; tail -n 3 $log >&2; exit $code; }}"
