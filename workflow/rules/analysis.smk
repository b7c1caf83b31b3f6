localrules:
    all,
    report,
    progress,


rule report:
    """Tables, figures and the combined report of the whole study."""
    input:
        cells=lambda wildcards: PLAN.targets,
        imported=lambda wildcards: PLAN.imported,
        config=CONFIG_FILES,
        # Their time changes when a cell is deleted, which a report that is up to date would hide otherwise.
        folders=lambda wildcards: PLAN.folders,
    output:
        REPORT,
        str(STUDY.results / "combined_report.html"),
    log:
        LOGS / "report/combined.log",
    message:
        "report on all cells: {output[0]}"
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
