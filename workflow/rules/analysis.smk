localrules:
    all,
    nothing,
    report,
    progress,


rule nothing:
    """The results that were asked for are there."""
    input:
        CONFIG_FILES,


rule report:
    """Tables, figures and the combined report of the whole study; asked for only when it is due, hence no outputs."""
    input:
        trained=lambda wildcards: [PLAN.flag(cell) for cell in PLAN.to_train],
    log:
        LOGS / "report/combined.log",
    message:
        f"report on all cells: {PLAN.report_files[0]}"
    shell:
        "qablate report {SETTINGS} > {log} 2>&1"


rule progress:
    """Report on what exists now. No rule makes its inputs, so nothing is trained; no outputs, so it always runs."""
    input:
        SHOWN,
    log:
        LOGS / "report/progress.log",
    params:
        contents=CONTENTS,
    message:
        f"report on what exists now: {STUDY.results}/progress_report.md"
    shell:
        "qablate report {SETTINGS} --partial > {log} 2>&1"
