rule train:
    """Train one cell: one model on one task at one length with one seed."""
    input:
        RUN.dataset,
    output:
        # Not the result itself: Snakemake deletes the outputs of a job that is to run or that failed. Not `touch(...)`:
        # with that, Snakemake makes the flag of a job that Slurm forgot, whether it has trained or not.
        RUN.plan.flags / "{model}_{task}_L{length}_seed{seed}",
    threads: RUN.study.config["run"]["threads"]
    resources:
        **RUN.resources,
    params:
        reason=RUN.reason,
        # Not under `log:`, whose files Snakemake deletes before a job: a cell that resumes keeps its whole log.
        log=f"{RUN.logs}/train/{{model}}_{{task}}_L{{length}}_seed{{seed}}.log",
        max_seconds=RUN.max_seconds,
    message:
        "{params.reason}"
    shell:
        "log={params.log}; mkdir -p $(dirname $log); "
        f"{RUN.launcher} qablate train {RUN.settings}"
        " --model {wildcards.model} --task {wildcards.task} --length {wildcards.length} --seed {wildcards.seed}"
        f" --output {RUN.study.result_folder}/"
        "synthetic_{wildcards.model}_{wildcards.task}_L{wildcards.length}_seed{wildcards.seed}_results.json"
        " {params.max_seconds} >> $log 2>&1 && touch {output} || {{ code=$?; tail -n 3 $log >&2; exit $code; }}"
