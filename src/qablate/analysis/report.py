"""The report: sections as Markdown and as one self-contained page, with a CSV of every table and figure.

The walk: `collect` the runs, `compare` them, let each section make its parts, write all into a fresh folder, swap.
A report that fails leaves the one before it whole.
"""

import base64
import csv
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pandas.api.types import is_numeric_dtype

from qablate.analysis.collect import Runs, collect
from qablate.analysis.explorer import explorer_page
from qablate.analysis.figure import render, style
from qablate.analysis.sections import (
    agreement,
    answers,
    attention,
    comparisons,
    controls,
    cost,
    forrelation,
    methods,
    running,
    scores,
    summary,
)
from qablate.analysis.table import Figure, Part, Section, Table
from qablate.analysis.verdicts import compare
from qablate.catalog import task_info
from qablate.errors import QablateError
from qablate.files import write_atomic
from qablate.study import Cell, Study

TITLE = "Quantum Hydra/Mamba ablation study"
FOLDERS = ("tables", "figures", "report")
INDEX = Path("report/contents.csv")
NAMED_MISSING = 3
NUMBER = re.compile(r"–.*|[*(]*([+−-]?\d[\d,.]*(e-?\d+)?( ?%)?((/| / | to )[\d,.]+)?( ± [\d.e-]+)?)?[)*]*"
                    r"( \([^()]*\))?\**")
"""A cell that is shown as a number: `0.514 (n 1)`, `**1.2e-4 ± 3e-5**`, `12 / 36`, `–`, or nothing."""
FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for the beginning of a formula."""


def make_report(study: Study, partial: bool, jobs: Mapping[Cell, str] | None = None, pdf: bool = False) -> Path:
    """Write the report of a study below its results folder; return the Markdown file.

    `partial` makes `progress_report.md` from whatever exists; otherwise `combined_report.md`, for which every planned
    cell must be done and every folder readable, else a QablateError names what is not. `jobs`: cells in a scheduler's
    queue, `queued` or `running`, if one was reached. `pdf`: figures as PDF, too.
    """
    runs = collect(study, jobs)
    if not partial:
        _require_complete(runs)
    sections, details = report_sections(runs), details_sections(runs)
    kind, words = ("progress", "results so far") if partial else ("combined", "combined results")
    intro = " ".join(filter(None, (summary.headline(runs), "[Explorer](report/explorer.html): all cells and "
                                   "their learning curves. [Details](report/details.md), every run: "
                                   "[runs.csv](tables/runs.csv).")))
    target = study.results / f"{kind}_report.md"
    study.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=study.results) as name:
        fresh = Path(name)
        for folder in FOLDERS:
            (fresh / folder).mkdir()
        parts = [(section.title, part) for section in (*sections, *details) for part in section.parts]
        pictures = _write_parts(parts, runs, fresh, pdf)
        _write_page(fresh / target.name, f"{TITLE}: {words}", intro, sections, pictures)
        back = f"All that the [report](../{target.name}) leaves out."
        _write_page(fresh / "report/details.md", f"{TITLE}: details", back, details, pictures)
        explorer = explorer_page(runs, f"{TITLE}: explorer", f"../{target.stem}.html")
        write_atomic(fresh / "report/explorer.html", explorer.encode("utf-8", "backslashreplace"))
        _swap(fresh, study.results, target)
    return target


def report_sections(runs: Runs) -> list[Section]:
    """The sections of the report, in order."""
    verdicts = compare(runs)
    every = [
        summary.summary(runs), answers.answers(runs, verdicts), *task_sections(runs, verdicts),
        comparisons.comparisons(runs, verdicts), controls.controls(runs), answers.findings(runs, verdicts),
        attention.attention(runs), running.running(runs), cost.cost(runs), methods.configuration(runs),
    ]
    return [section for section in every if section.parts]


def task_sections(runs: Runs, verdicts: pd.DataFrame) -> list[Section]:
    """One section per task, regression first as in the founding document."""
    ordered = sorted(runs.tasks, key=lambda task: task_info(task).kind == "classification")
    return [forrelation.results(runs, verdicts) if task == forrelation.TASK else scores.results(runs, task)
            for task in ordered]


def details_sections(runs: Runs) -> list[Section]:
    """The sections of the details, in order."""
    return [
        *(Section(task_info(task).title, scores.details(runs, task)) for task in runs.tasks),
        Section("Agreement", (agreement.published_means(runs), agreement.cross_system(runs))),
        Section("Needs attention in full", attention.details(runs)),
        Section("Completion and missing cells", (running.completion_by_system(runs), running.missing_cells(runs))),
        Section("Cost", cost.details(runs)),
        Section("Configuration in full", methods.details(runs)),
    ]


def _require_complete(runs: Runs) -> None:
    if runs.unreadable:
        raise QablateError(runs.unreadable[0])
    missing = runs.open_cells
    if missing.empty:
        return
    named = [f"{Cell(row.model, row.task, row.length, row.seed).name} ({row.state})"
             for row in missing.head(NAMED_MISSING).itertuples()]
    more = ", ..." if len(missing) > NAMED_MISSING else ""
    raise QablateError(f"study '{runs.study.name}': {len(missing)} of {len(runs.cells)} cells are missing: "
                       f"{', '.join(named)}{more}; `qablate report --partial` reports on what exists")


def _write_parts(parts: Iterable[tuple[str, Part]], runs: Runs, folder: Path, pdf: bool) -> dict[str, bytes]:
    """Write the CSV of every table, CSV and picture of every figure, and a list of them; return the PNGs by name."""
    write_csv(folder / "tables/runs.csv", runs.table)
    index, pictures = [], {}
    for section, part in parts:
        if isinstance(part, Table):
            write_csv(folder / f"tables/{part.id}.csv", part.frame)
            index.append((f"tables/{part.id}.csv", section, part.title, part.caption))
        elif isinstance(part, Figure):
            pictures[f"{part.id}.png"] = _write_figure(part, folder / "figures", pdf)
            index += [(f"figures/{part.id}.{kind}", section, part.title, part.caption)
                      for kind in ("png", "csv", *["pdf"] * pdf)]
    index.append(("tables/runs.csv", "Data", "Every run", ""))
    write_csv(folder / INDEX, pd.DataFrame(index, columns=["file", "section", "title", "caption"]))
    return pictures


def _write_figure(figure: Figure, folder: Path, pdf: bool) -> bytes:
    write_csv(folder / f"{figure.id}.csv", figure.data)
    with style():
        canvas = figure.draw()
        png = render(canvas)
        write_atomic(folder / f"{figure.id}.png", png)
        if pdf:
            write_atomic(folder / f"{figure.id}.pdf", render(canvas, "pdf"))
    return png


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    words = {column: frame[column].map(_defused) for column in frame if not is_numeric_dtype(frame[column])}
    text = frame.assign(**words).to_csv(index=False, lineterminator="\n")
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def _defused(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ").lstrip(" ")     # a bare carriage return would end the row for most readers
    return f"'{text}" if text.startswith(FORMULA) else text


def _swap(fresh: Path, results: Path, target: Path) -> None:
    """Put a finished report in the place of the last one, folder by folder; files that no report wrote stay."""
    ours = _listed(results / INDEX)
    for folder in FOLDERS:
        place, old = results / folder, fresh / f"{folder}.old"
        for path in place.glob("*") if place.is_dir() else ():
            foreign = f"{folder}/{path.name}" not in ours and folder != "report"
            if foreign and not (fresh / folder / path.name).exists():
                path.rename(fresh / folder / path.name)
        if place.is_dir():
            place.rename(old)
        (fresh / folder).rename(place)
    for path in (target.with_suffix(".html"), target):
        (fresh / path.name).replace(path)


def _listed(index: Path) -> set[str]:
    try:
        with index.open(newline="", encoding="utf-8") as file:
            return {row["file"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return set()


def _write_page(path: Path, title: str, intro: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> None:
    """Write the sections as Markdown and the same text as a page."""
    text = markdown(title, intro, sections, "../" if path.parent.name == "report" else "")
    write_atomic(path, text.encode("utf-8", "backslashreplace"))
    tables = [part for section in sections for part in section.parts if isinstance(part, Table) and len(part.shown)]
    page = html(title, text, [table.foot for table in tables], pictures)
    write_atomic(path.with_suffix(".html"), page.encode("utf-8", "backslashreplace"))


def markdown(title: str, intro: str, sections: Sequence[Section], root: str = "") -> str:
    """Return sections as Markdown; `root` is the way from the file to the results folder, details have headings."""
    text = _environment().get_template("page.md.j2").render(
        title=title, intro=intro, sections=sections, root=root, detailed=bool(root))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html(title: str, text: str, feet: Sequence[int], pictures: Mapping[str, bytes]) -> str:
    """Return Markdown as one page that needs no other file; `feet`: last rows of each table that no sort moves."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda self, tokens, i, options, env: (
        f'<div class="scroll"><table data-foot="{tokens[i].meta.get("foot", 0)}">'))
    parser.add_render_rule("table_close", lambda self, tokens, i, options, env: "</table></div>")
    parser.add_render_rule("image", lambda self, *given: f'<span class="picture">{self.image(*given)}</span>')
    tokens = parser.parse(text)
    for token, foot in zip((token for token in tokens if token.type == "table_open"), feet, strict=False):
        token.meta["foot"] = foot
    headings = list(_headings(tokens))
    for token in _all_tokens(tokens):
        _embed(token, pictures)
    body = parser.renderer.render(tokens, parser.options, {})
    return _environment().get_template("page.html.j2").render(title=title, body=body, headings=headings)


def _headings(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Give every heading an id; yield id and words of those of sections."""
    for token, inline in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            token.attrSet("id", re.sub(r"[^\w-]", "", inline.content.lower().replace(" ", "-")))
            if token.tag == "h2":
                yield str(token.attrs["id"]), inline.content


def _all_tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all_tokens(token.children or ())


def _embed(token: Token, pictures: Mapping[str, bytes]) -> None:
    """Put a picture into the page, and lead a link to another page of Markdown to its HTML."""
    if token.type == "image" and (png := pictures.get(str(token.attrs["src"]).rpartition("/")[2])) is not None:
        token.attrSet("src", f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}")
    if token.type == "link_open":
        token.attrSet("href", re.sub(r"\.md(?=#|$)", ".html", str(token.attrs["href"])))


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
    return re.sub(r"[|<`\\]|\](?=[(\[:])", lambda sign: f"\\{sign[0]}", " ".join(str(value).split()))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qablate.analysis", "templates"), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=lambda name: name == "page.html.j2")
    environment.filters["table_lines"] = table_lines
    return environment
