"""The list of the files a report wrote: what each is, and which of an earlier report are to go.

Two reports share the folders `tables/` and `figures/`. A table or figure that the later one no longer makes would stand
there as if it belonged to it, so that the list of the earlier one says what to delete. A file that is not on the list,
or that somebody changed since, is left alone.
"""

import contextlib
import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from qablate.analysis.old_figure import Figure
from qablate.analysis.old_table import Table, write_frame
from qablate.files import sha256_of

NAME = "contents.csv"
FOLDERS = ("tables", "figures")
DATA = {
    "runs": "Every run that is used",
    "shares_by_run": "Share of the way from floor to ceiling, run by run",
    "summary": "Numbers of the running text",
    "claims": "Claims and their verdicts",
    "claim_details": "Values behind the claims",
    "power": "What would settle the open claims, and what it costs",
    "controls": "How far the controls are",
}
"""Titles of the tables that are written as CSV only."""
DATA_SECTION = "Data behind the tables"


@dataclass(frozen=True)
class Item:
    """One written file: its path below the results folder, and what a reader calls it."""

    file: str
    kind: str
    id: str
    number: str = ""
    title: str = ""
    caption: str = ""
    section: str = DATA_SECTION


def items(tables: Iterable[Table], figures: Iterable[Figure], data: Iterable[Path],
          sections: Mapping[str, str]) -> list[Item]:
    """List tables, figures and the CSV files behind them; `sections` maps their ids to headings of the report."""
    found = [Item(f"tables/{table.file_name}", "table", table.id, table.number, table.title,
                  table.caption if len(table.content.frame) else table.when_empty,
                  sections.get(table.id, DATA_SECTION)) for table in tables]
    found += [Item(f"figures/{figure.id}.{suffix}", "figure", figure.id, "", figure.title, figure.caption,
                   sections.get(figure.id, DATA_SECTION)) for figure in figures for suffix in figure.suffixes]
    found += [Item(f"tables/{path.name}", "data", path.stem, "", DATA.get(path.stem, path.stem)) for path in data]
    return [*found, Item(f"tables/{NAME}", "data", Path(NAME).stem, "", "The files of this report")]


def replace_contents(results: Path, written: Iterable[Item]) -> None:
    """Delete what the report before wrote and this one did not, then write the list of what there is now."""
    written = list(written)
    current = {item.file for item in written}
    for file, digest in _listed(results / "tables" / NAME).items():
        path = results / file
        if file not in current and _is_ours(path, results) and path.is_file() and sha256_of(path) == digest:
            path.unlink()
    rows = [{**asdict(item), "sha256": "" if item.file.endswith(NAME) else sha256_of(results / item.file)}
            for item in written]
    write_frame(results / "tables" / NAME, pd.DataFrame(rows))


def _is_ours(path: Path, results: Path) -> bool:
    """Whether a path of the list lies where reports write; a list may have been edited."""
    return path.parent in [results / folder for folder in FOLDERS]


def _listed(path: Path) -> dict[str, str]:
    """Files of an earlier list with their hashes; none where there is no list that can be read."""
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file) if row.get("file") and row.get("sha256")}
    return {}
