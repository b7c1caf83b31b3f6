"""The combined report and the progress report: tables, figures, Markdown and one HTML file, from what exists.

No sentence about results is typed here: the text says what a table is, its cells say what was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from qablate.analysis import contents
from qablate.analysis.ceilings import shares
from qablate.analysis.contrasts import cell_of
from qablate.analysis.evaluation import write_claims
from qablate.analysis.figures import write_figures
from qablate.analysis.findings import Findings, find
from qablate.analysis.formats import DASH, integer
from qablate.analysis.old_figure import Figure
from qablate.analysis.old_table import Table, write_frame
from qablate.analysis.runs import Collection, collect
from qablate.analysis.sentences import require_wording
from qablate.analysis.summary import distinct
from qablate.analysis.tables import make_tables
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.importing import require_readable
from qablate.study import Cell, Study

NAMED_MISSING = 3
MARKDOWN_ROWS = 60
"""Rows of one table in the Markdown report; the CSV and the HTML report hold all."""


@dataclass(frozen=True)
class Section:
    """A heading with a text and the figures and tables below it, by id; those a study lacks are left out."""

    title: str
    text: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


SECTIONS = (
    Section("Overview", "Colours compare within a task; scores of different tasks are never pooled.", ("score_map",)),
    Section("Coverage", "A cell is one model on one task at one length with one seed.", ("state_map",),
            ("systems", "progress", "completion", "missing_cells", "hours_left", "failures", "queue")),
    Section("Forrelation", "Decide whether two Boolean functions, seen at random addresses, are related by a Fourier "
            "transform. The score is the accuracy on the test split.", ("length_forrelation",
            "forrelation_diagnostics", "learning_forrelation"),
            ("forrelation_overview", "forrelation_by_length", "legacy_forrelation", "per_seed_forrelation",
             "scaling_forrelation")),
    Section("Adding Problem", "Add the two marked values of a sequence. The score is the mean squared error on the "
            "test split; the error, not R², tells models apart that have learned the task.",
            ("length_adding_problem", "learning_adding_problem"), ("adding_by_length", "per_seed_adding_problem",
                                                               "scaling_adding_problem")),
    Section("Selective Copy", "Return the marked values of a sequence in their order. The score is R² on the test "
            "split over all outputs together.", ("length_selective_copy", "learning_selective_copy"),
            ("selective_by_length", "selective_ceiling", "per_seed_selective_copy", "scaling_selective_copy")),
    Section("Matched comparisons", "Arms are compared on the blocks (length and seed) that all of them have, by the "
            "contrasts of the claims; scores of different tasks are never pooled.",
            ("factor_forest", "placement", "equivalence_strip", "performance_profiles", "rank_diagram",
             "controls_ladder", "gradient_variance")),
    Section("Kinds of models", "Means over kinds describe the models that were run; whether a kind matters is a matter "
            "of matched contrasts, not of these tables.", (), ("architectures", "groups")),
    Section("Floors and ceilings", "What a score is to be compared with: a floor takes no learning, a ceiling is what "
            "the data and a model's reading of them allow.", (), ("references", "shares", "selection_floors")),
    Section("Models and settings", "Letters before the arrow say how features are made, after it how the sequence is "
            "mixed: C classical, Q quantum, Q(S) quantum with superposition.", (),
            ("models", "parameters", "settings")),
    Section("Cost", "Measured on the devices named.", ("pareto",), ("cost", "cost_by_model")),
    Section("Agreement", "With the published document, and between systems.", ("system_agreement",),
            ("reproduction_summary", "reproduction", "replication", "cross_system")),
    Section("Files and datasets", "What every number rests on.", (),
            ("import_counts", "import_log", "datasets")),
)

READING = """\
- Every number is in a CSV of the folder `tables/`, unrounded; every figure has the CSV it was drawn from beside it.
- n is the number of runs behind a value and stands where runs are missing; ± is the sample standard deviation.
- A dash is an empty cell, with the reason; no score is filled in for a run that is missing or diverged.
- Scores are of the test split, at the epoch chosen on the validation split.
- Errors are written with three significant digits, unrounded in the CSV.
"""


def make_report(study: Study, partial: bool, jobs: Mapping[Cell, str] | None = None, pdf: bool = False) -> Path:
    """Write tables, figures, Markdown and HTML of a study below its results folder; return the Markdown file.

    `partial` makes `progress_report.md` from whatever exists; otherwise `combined_report.md`, for which every planned
    cell must be finished and every folder readable, else a QablateError names what is not. `jobs`: cells in a
    scheduler's queue, `queued` or `running`, if one was reached. `pdf`: figures as PDF, too.
    """
    collection = collect(study, jobs)
    if not partial:
        require_readable(collection.merged)
        _require_complete(collection)
    findings = find(collection)
    tables = make_tables(collection)
    facts = _facts(collection)
    data = _write_tables(collection, tables, facts, findings, study.results / "tables")
    figures = write_figures(collection, findings, study.results / "figures", pdf)
    headings = {key: section.title for section in SECTIONS for key in (*section.figures, *section.tables)}
    contents.replace_contents(study.results, contents.items(tables.values(), figures.values(), data, headings))
    target = study.results / ("progress_report.md" if partial else "combined_report.md")
    context = _context(collection, partial, facts, tables, figures) | _claims_context(findings)
    for path, template in ((target.with_suffix(".html"), "report.html.j2"), (target, "report.md.j2")):
        write_atomic(path, _environment().get_template(template).render(context).encode("utf-8"))
    return target


def _write_tables(collection: Collection, tables: Mapping[str, Table], facts: Mapping[str, Any], findings: Findings,
                  folder: Path) -> list[Path]:
    """Write every table; return the files that hold more than a table of the report does."""
    for table in tables.values():
        table.write_csv(folder)
    frames = {"runs": collection.runs, "shares_by_run": shares(collection.complete_runs, collection.study),
              "summary": pd.DataFrame(facts.items(), columns=["name", "value"])}
    if findings.results:
        frames |= {"power": findings.power_table, "controls": findings.controls}
    data = [write_frame(folder / f"{name}.csv", frame) for name, frame in frames.items()]
    return data + (write_claims(findings.results, folder) if findings.results else [])


def _claims_context(findings: Findings) -> dict[str, Any]:
    """The claims for the templates; a QablateError names a phrase that no report may hold."""
    context = {"questions": findings.questions, "groups": findings.groups, "claims_note": findings.note,
               "controls": findings.controls.to_dict("records"), "controls_complete": findings.controls_complete}
    for name in ("questions.md.j2", "claims.md.j2"):
        require_wording(_environment().get_template(name).render(context), findings.results,
                        findings.controls_complete)
    return context


def _require_complete(collection: Collection) -> None:
    open_cells = collection.open_cells
    if open_cells.empty:
        return
    named = [f"{cell_of(row).name} ({row['state']})" for row in open_cells.head(NAMED_MISSING).to_dict("records")]
    more = ", ..." if len(open_cells) > NAMED_MISSING else ""
    raise QablateError(f"study '{collection.study.name}': {len(open_cells)} of {len(collection.cells)} cells have no "
                       f"result that stands: {', '.join(named)}{more}; the progress report is made from what exists")


def _facts(collection: Collection) -> dict[str, Any]:
    """Return the numbers of the report's running text, in the words they are written under in `summary.csv`."""
    cells, runs = collection.cells, collection.runs
    states = cells["state"].value_counts()
    finished = int(cells["finished"].sum())
    return {
        "study": collection.study.name,
        "cells planned": len(cells),
        "cells finished": finished,
        "cells without a result that stands": len(cells) - finished,
        **{f"cells {state.replace('_', ' ')}": int(count) for state, count in sorted(states.items())},
        "models": len(collection.models),
        "tasks": len(collection.tasks),
        "seeds": len(collection.seeds),
        "systems": ", ".join(name for name in collection.merged.systems if (runs["source"] == name).any()),
        "folders that could not be read": "; ".join(collection.merged.unreadable),
        "devices": distinct(runs["device_name"].dropna()),
        "package versions": distinct(runs["package_version"].dropna()),
    }


def _context(collection: Collection, partial: bool, facts: Mapping[str, Any], tables: Mapping[str, Table],
             figures: Mapping[str, Figure]) -> dict[str, Any]:
    sections = []
    for section in SECTIONS:
        shown = [figures[key] for key in section.figures if key in figures]
        listed = [tables[key] for key in section.tables if key in tables]
        if shown or listed:
            sections.append({"title": section.title, "text": section.text, "figures": shown, "tables": listed})
    return {
        "partial": partial, "facts": facts, "sections": sections, "reading": READING, "dash": DASH,
        "folder": collection.study.result_folder.as_posix(), "markdown_rows": MARKDOWN_ROWS,
        "first_model": collection.models[0], "logs": (collection.study.results / "logs" / "train").as_posix(),
    }


def _plain(text: str) -> str:
    """Keep text from result files and error messages from being read as Markdown."""
    return "".join(f"\\{letter}" if letter in "|<[`\\" else letter for letter in " ".join(text.split()))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qablate.analysis", "templates"), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
        autoescape=lambda name: ".html" in (name or ""))
    markdown = MarkdownIt("commonmark", {"html": False})
    environment.filters["plain"] = _plain
    environment.filters["integer"] = integer
    environment.filters["markdown"] = lambda text: jinja2.utils.markupsafe.Markup(markdown.render(text))
    return environment
