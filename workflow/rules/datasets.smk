# Seconds each, and every cell waits for one: on a cluster they are made where Snakemake runs, not queued for.
localrules:
    dataset,


rule dataset:
    """Make the dataset of one task, length and seed."""
    output:
        STUDY.results / "datasets/{base}/{generator}/{variant}/L{length}_seed{seed}.npz",
    log:
        LOGS / "dataset/{base}_{generator}_{variant}_L{length}_seed{seed}.log",
    params:
        task=lambda wildcards, output: PLAN.task_of(output[0]),
    message:
        "dataset of {params.task}, length {wildcards.length}, seed {wildcards.seed}"
    shell:
        "qablate dataset {SETTINGS} --task {params.task} --length {wildcards.length}"
        " --seed {wildcards.seed} > {log} 2>&1"
