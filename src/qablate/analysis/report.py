"""The report: sections as Markdown and as one self-contained page, with a CSV of every table and figure.

The walk: `collect` the runs, `compare` them, let each section make its parts, write all into a fresh folder, swap.
A report that fails leaves the one before it whole.
"""

import base64
import contextlib
import html
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt

from qablate.analysis.collect import Runs, collect
from qablate.analysis.explorer import TEMPLATES, explorer_page
from qablate.analysis.figure import render, style
from qablate.analysis.sections import (
    agreement,
    attention,
    comparisons,
    controls,
    cost,
    forrelation,
    methods,
    scores,
    summary,
)
from qablate.analysis.table import Figure, Section, Table
from qablate.analysis.verdicts import compare
from qablate.catalog import task_info
from qablate.errors import MachineError, QablateError
from qablate.files import LEFTOVER_AGE_S, check_writable, write_atomic
from qablate.results.outputs import defused
from qablate.study import Cell, Study

TITLE = "Quantum Hydra/Mamba ablation study"
FOLDERS = ("tables", "figures", "report")
INDEX = Path("report/contents.csv")
TEMPORARY, OLD = ".report-", ".old"
"""The folder that a report is written in begins with the one; what it replaces ends, in that folder, in the other."""
NAMED_MISSING = 3
NUMBER = re.compile(r"–.*|[*(]*([+−-]?\d[\d,.]*(e-?\d+)?( ?%)?((/| / | to )[\d,.]+)?( ± [\d.e-]+)?)?[)*]*"
                    r"( \([^()]*\))?\**")
"""A cell that is shown as a number: `0.514 (n 1)`, `**1.2e-4 ± 3e-5**`, `12 / 36`, `–`, or nothing."""


def make_report(study: Study, partial: bool, jobs: Mapping[Cell, str] | None = None, pdf: bool = False,
                command: str = "qablate report --partial") -> Path:
    """Write the report of a study below its results folder; return the Markdown file.

    `partial` makes `progress_report.md` from whatever exists; otherwise `combined_report.md`, for which every planned
    cell must be done and every folder readable, else a QablateError names what is not. `jobs`: cells in a scheduler's
    queue, `queued` or `running`, if one was reached. `pdf`: figures as PDF, too. `command`: what makes the
    partial report of this study, for that error. Raises MachineError where it cannot write, with the report that was
    there whole.
    """
    runs = collect(study, jobs)
    if not partial:
        _require_complete(runs, command)
    sections, details = report_sections(runs), details_sections(runs)
    kind, words = ("progress", "results so far") if partial else ("combined", "combined results")
    intro = (f"{summary.headline(runs)} [Explorer](report/explorer.html): all cells and their learning curves. "
             "[Details](report/details.md), every run: [runs.csv](tables/runs.csv).")
    target = study.results / f"{kind}_report.md"
    check_writable(study.results)
    _remove_leftovers(study.results)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=study.results, ignore_cleanup_errors=True) as name:
        fresh = Path(name)
        for folder in FOLDERS:
            (fresh / folder).mkdir()
        pictures = _write_parts([*sections, *details], runs, fresh, pdf)
        _write_page(fresh / target.name, f"{TITLE}: {words}", intro, sections, pictures)
        back = f"All that the [report](../{target.name}) leaves out."
        _write_page(fresh / "report/details.md", f"{TITLE}: details", back, details, pictures)
        explorer = explorer_page(runs, f"{TITLE}: explorer", f"../{target.stem}.html")
        write_atomic(fresh / "report/explorer.html", explorer.encode("utf-8", "backslashreplace"))
        _swap(fresh, study.results, target)
    return target


def report_sections(runs: Runs) -> list[Section]:
    """The sections of the report, in order; of the tasks, regression first as in the founding document."""
    verdicts = compare(runs)
    ordered = sorted(runs.tasks, key=lambda task: task_info(task).kind == "classification")
    every = [
        Section("Summary", (summary.combined_progress(runs), summary.score_map(runs), summary.best_scores(runs))),
        comparisons.answers(runs, verdicts),
        *(_of_task(runs, task, verdicts) for task in ordered),
        comparisons.comparisons(runs, verdicts),
        controls.controls(runs),
        comparisons.findings(runs, verdicts),
        Section("Needs attention", (attention.attention(runs),)),
        Section("Running and missing", (attention.completion_status(runs), attention.state_map(runs))),
        Section("Cost", (cost.tradeoff(runs),)),
        Section("Configuration", (
            methods.models_tested(runs), methods.hyperparameters(runs), methods.task_configurations(runs))),
    ]
    return [section for section in every if section.parts]


def _of_task(runs: Runs, task: str, verdicts: pd.DataFrame) -> Section:
    title, figure = f"{task_info(task).title} results", scores.length_figure(runs, task)
    if task == forrelation.TASK:
        return Section(title, (forrelation.ranking(runs, verdicts), figure, forrelation.solver_figure(runs)))
    return Section(title, (scores.by_length(runs, task), figure))


def details_sections(runs: Runs) -> list[Section]:
    """The sections of the details, in order."""
    every = [
        *(Section(task_info(task).title, (scores.per_seed(runs, task), scores.learning_figure(runs, task)))
          for task in runs.tasks),
        Section("Agreement", (agreement.published_means(runs), agreement.cross_system(runs))),
        Section("Needs attention in full", (attention.odd_runs(runs), attention.files_not_used(runs))),
        Section("Controls", controls.details(runs)),
        Section("Cost", (cost.cost_by_model(runs), cost.cost_by_length(runs))),
        Section("Configuration in full", (
            methods.datasets(runs), methods.baselines_and_bounds(runs), methods.normalized_scores(runs))),
    ]
    return [section for section in every if section.parts]


def _require_complete(runs: Runs, command: str) -> None:
    if runs.unreadable:
        raise QablateError(runs.unreadable[0])
    missing = runs.open_cells
    if len(missing):
        named = [f"{Cell(row.model, row.task, row.length, row.seed).name} ({row.state})"
                 for row in missing.head(NAMED_MISSING).itertuples()]
        more = ", ..." if len(missing) > NAMED_MISSING else ""
        raise QablateError(f"study '{runs.study.name}': {len(missing)} of {len(runs.cells)} cells are missing: "
                           f"{', '.join(named)}{more}; `{command}` reports on what exists")


def _write_parts(sections: Iterable[Section], runs: Runs, folder: Path, pdf: bool) -> dict[str, bytes]:
    """Write the CSV of every table, CSV and picture of every figure, and a list of them; return the PNGs by name."""
    write_csv(folder / "tables/runs.csv", runs.table)
    index, pictures = [], {}
    for title, part in ((section.title, part) for section in sections for part in section.parts):
        if isinstance(part, Table):
            write_csv(folder / f"tables/{part.id}.csv", part.frame)
            index.append((f"tables/{part.id}.csv", title, part.title, part.caption))
        elif isinstance(part, Figure):
            write_csv(folder / f"figures/{part.id}.csv", part.data)
            with style():
                canvas = part.draw()
                for kind in ("png", *["pdf"] * pdf):
                    write_atomic(folder / f"figures/{part.id}.{kind}", render(canvas, kind))
            pictures[f"{part.id}.png"] = (folder / f"figures/{part.id}.png").read_bytes()
            index += [(f"figures/{part.id}.{kind}", title, part.title, part.caption)
                      for kind in ("png", "csv", *["pdf"] * pdf)]
    index.append(("tables/runs.csv", "Data", "Every run", ""))
    write_csv(folder / INDEX, pd.DataFrame(index, columns=["file", "section", "title", "caption"]))
    return pictures


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame; text that a spreadsheet would run as a formula is defused."""
    text = frame.map(defused).to_csv(index=False, lineterminator="\n")
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def _swap(fresh: Path, results: Path, target: Path) -> None:
    """Put a finished report in the place of the last one, whole or not at all; files that no report wrote stay."""
    ours, undo = _listed(results / INDEX), list[tuple[Path, Path]]()
    for name in (*FOLDERS, target.with_suffix(".html").name, target.name):
        new, place, old = fresh / name, results / name, fresh / f"{name}{OLD}"
        try:
            if name in FOLDERS and place.is_dir():
                place.rename(old)
                undo.append((old, place))
                for path in old.iterdir():
                    if f"{name}/{path.name}" not in ours and not (new / path.name).exists():
                        path.rename(new / path.name)
            elif name not in FOLDERS and place.is_file():
                shutil.copyfile(place, old)
                undo.append((old, place))
            new.rename(place)
            undo.append((place, new))
        except OSError as error:
            for now, before in reversed(undo):
                with contextlib.suppress(OSError):    # another report was faster: its folder stays
                    now.rename(before)
            with contextlib.suppress(OSError):
                _given_back(fresh, results)
            raise MachineError(f"{place}: cannot write: {error.strerror or error}") from error


def _listed(index: Path) -> set[str]:
    """The tables and figures of a report by its list of them; nothing without one."""
    try:
        return set(pd.read_csv(index)["file"])
    except (OSError, ValueError, KeyError):
        return set()


def _remove_leftovers(results: Path) -> None:
    """Remove the temporary folders of reports killed over a day ago; files that no report wrote go back first."""
    for folder in results.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFTOVER_AGE_S and _given_back(folder, results):
                shutil.rmtree(folder)


def _given_back(folder: Path, results: Path) -> bool:
    """Move files of others out of a report's folder; whether none is left: one whose name is taken stays there."""
    ours = {f"report/{name}" for name in ("contents.csv", "details.md", "details.html", "explorer.html")}
    for index in (results / INDEX, folder / INDEX, folder / f"report{OLD}" / INDEX.name):
        ours |= _listed(index)
    foreign = {path: name for path in folder.glob("*/*")
               if (name := f"{path.parent.name.removesuffix(OLD)}/{path.name}") not in ours}
    free = {path: results / name for path, name in foreign.items() if not os.path.lexists(results / name)}
    for path, place in free.items():
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    return len(free) == len(foreign)


def _write_page(path: Path, title: str, intro: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> None:
    """Write the sections as Markdown and the same text as a page."""
    text = markdown(title, intro, sections, "../" if path.parent.name == "report" else "")
    write_atomic(path, text.encode("utf-8", "backslashreplace"))
    tables = [part for section in sections for part in section.parts if isinstance(part, Table) and len(part.shown)]
    page = html_page(title, text, [table.foot for table in tables], pictures)
    write_atomic(path.with_suffix(".html"), page.encode("utf-8", "backslashreplace"))


def html_page(title: str, text: str, feet: Iterable[int], pictures: Mapping[str, bytes]) -> str:
    """Return Markdown as one page that needs no other file; `feet`: last rows of each table that no sort moves.

    What is changed afterwards are tags of the parser alone: it leaves none of those that are in the text.
    """
    rest, headings = iter(feet), []

    def heading(found: re.Match[str]) -> str:
        tag, words = found.groups()
        name = re.sub(r"[^\w-]", "", html.unescape(words).lower().replace(" ", "-"))
        headings.extend([(name, html.unescape(words))] * (tag == "h2"))
        return f'<{tag} id="{name}">{words}</{tag}>'

    def picture(found: re.Match[str]) -> str:
        png = base64.b64encode(pictures[found[1]]).decode("ascii")
        return f'<span class="picture"><img src="data:image/png;base64,{png}"{found[2]}></span>'

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = re.sub("<table>", lambda _: f'<div class="scroll"><table data-foot="{next(rest, 0)}">', body)
    body = re.sub(r'(<a href="[^"]*)\.md(?=[#"])', r"\1.html", body.replace("</table>", "</table></div>"))
    body = re.sub(r"<(h\d)>(.*?)</h\d>", heading, body)
    body = re.sub(r'<img src="(?:../)?figures/([^"]*)"(.*?)>', picture, body)
    return TEMPLATES.get_template("page.html.j2").render(title=title, body=body, headings=headings)


def markdown(title: str, intro: str, sections: Sequence[Section], root: str = "") -> str:
    """Return sections as Markdown; `root` is the way from the file to the results folder, details have headings."""
    text = TEMPLATES.get_template("page.md.j2").render(
        title=title, intro=intro, sections=sections, root=root, detailed=bool(root), table_lines=table_lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def table_lines(table: Table) -> list[str]:
    """Return a table as lines of Markdown: headers, alignment, rows."""
    aligned = ["---:" if right else "---" for right in right_aligned(table)]
    rows = [table.shown.columns, *table.shown.itertuples(index=False, name=None)]
    lines = [f"| {' | '.join(map(plain, row))} |" for row in rows]
    return [lines[0], f"|{'|'.join(aligned)}|", *lines[1:]]


def right_aligned(table: Table) -> list[bool]:
    """Whether each column of a table holds nothing but numbers, and at least one."""
    columns = [[str(value) for value in table.shown[column]] for column in table.shown]
    return [all(NUMBER.fullmatch(value) for value in values) and any(re.search(r"\d", value) for value in values)
            for values in columns]


def plain(value: object) -> str:
    """Keep text of result files from being read as Markdown: links, HTML, code, cells of a table, lines."""
    return re.sub(r"[|<`\\]|\](?=\()", lambda sign: f"\\{sign[0]}", " ".join(str(value).split()))
