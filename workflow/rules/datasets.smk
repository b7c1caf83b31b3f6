rule dataset:
    """Make the dataset of one task, length and seed. Takes seconds; run locally instead of submitting."""
    output:
        RUN.study.results / "datasets/{base}/{generator}/{variant}/L{length}_seed{seed}.npz",
    log:
        RUN.logs / "dataset/{base}_{generator}_{variant}_L{length}_seed{seed}.log",
    params:
        task=lambda wildcards, output: RUN.plan.task_of[output[0]],
    message:
        "dataset of {params.task}, length {wildcards.length}, seed {wildcards.seed}"
    shell:
        f"qablate dataset {RUN.settings}"
        " --task {params.task} --length {wildcards.length} --seed {wildcards.seed} > {log} 2>&1"
