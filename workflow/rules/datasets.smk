# Seconds each, and every cell waits for one: on a cluster they are made where Snakemake runs, not queued for.
localrules:
    dataset,


rule dataset:
    """Make the dataset of one task, length and seed."""
    output:
        STUDY.results / "datasets/{task}/{generator}/{variant}/L{length}_seed{seed}.npz",
    log:
        LOGS / "dataset/{task}_{generator}_{variant}_L{length}_seed{seed}.log",
    message:
        "dataset of {wildcards.task}, length {wildcards.length}, seed {wildcards.seed}"
    shell:
        "qablate dataset {SETTINGS} --task {wildcards.task} --length {wildcards.length}"
        " --seed {wildcards.seed} > {log} 2>&1"
