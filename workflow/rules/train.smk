rule train:
    """Train one cell: one model on one task at one length with one seed."""
    input:
        lambda wildcards: PLAN.inputs(cell_of(wildcards)),
    output:
        STUDY.result_folder / "synthetic_{model}_{task}_L{length}_seed{seed}_results.json",
    log:
        LOGS / "train/{model}_{task}_L{length}_seed{seed}.log",
    params:
        settings=SETTINGS,
        reason=lambda wildcards: PLAN.describe(cell_of(wildcards)),
    message:
        "{params.reason}"
    threads: STUDY.config["run"]["threads"]
    # The log is appended to: a cell that stops for time and resumes keeps its history.
    shell:
        "qablate train {params.settings} --model {wildcards.model} --task {wildcards.task}"
        " --length {wildcards.length} --seed {wildcards.seed} --output {output} >> {log} 2>&1"
