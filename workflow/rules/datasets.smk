rule dataset:
    """Make the dataset of one task, length and seed. Takes seconds; run locally instead of submitting."""
    output:
        RUN.study.results / "datasets/{task}/{generator}/{variant}/L{length}_seed{seed}.npz",
    log:
        RUN.logs / "dataset/{task}_{generator}_{variant}_L{length}_seed{seed}.log",
    message:
        "dataset of {wildcards.task}, length {wildcards.length}, seed {wildcards.seed}"
    shell:
        f"qablate dataset {RUN.settings}"
        " --task {wildcards.task} --length {wildcards.length} --seed {wildcards.seed} > {log} 2>&1"
