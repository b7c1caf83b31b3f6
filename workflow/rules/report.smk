rule report:
    """Tables, figures and the combined report of the whole study; asked for only when it is due, hence no outputs."""
    input:
        trained=RUN.trained,
    log:
        RUN.logs / "report/combined.log",
    message:
        f"report on all cells: {RUN.plan.report_files[0]}"
    shell:
        f"qablate report {RUN.settings} > {{log}} 2>&1"


rule progress:
    """Report on what exists now. No rule makes its inputs, so nothing is trained; no outputs, so it always runs."""
    input:
        RUN.shown,
    log:
        RUN.logs / "report/progress.log",
    params:
        contents=RUN.contents,
    message:
        f"report on what exists now: {RUN.study.results}/progress_report.md"
    shell:
        f"qablate report {RUN.settings} --partial > {{log}} 2>&1"
