"""Write the tables and the figure of docs/results.md anew, from the results that this repository ships.

    .venv/bin/python docs/refresh_results.py

A table of the page begins with a marker, `<!-- table 6 -->` or `<!-- table 11b, finished rows -->` (rows without a
missing cell), and ends with its last row. Everything between is the report's; the text around it is written by hand.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from qablate.analysis.report import make_report
from qablate.study import Study

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results.md"
FIGURE = ROOT / "docs/figures/first_results.svg"
STUDY = (ROOT / "config.yaml", ROOT / "workflow/studies/first_results.yaml")
MARKER = r"^<!-- table (?P<number>\w+)(?P<finished>, finished rows)? -->\n"
MARKED = re.compile(MARKER + r"(?:^(?!\|).*\n)+(?:^\|.*\n)+", re.M)


def with_tables(page: str, report: str) -> str:
    """The page with each marked table as the report has it."""

    def table(marker: re.Match[str]) -> str:
        title, caption, rows = _table(report, marker["number"])
        if marker["finished"]:
            rows = rows[:2] + [row for row in rows[2:] if "– missing" not in row]
        return "\n".join([marker[0].split("\n")[0], f"**{title}.** {caption}", "", *rows, ""])

    return MARKED.sub(table, page)


def _table(report: str, number: str) -> tuple[str, str, list[str]]:
    """Title, caption without its file, and lines of one table of a report."""
    found = re.search(rf"^### (Table {number}: .*)\n\s*((?:^\|.*\n)+)\s*(.*)", report, re.M)
    if found is None:
        sys.exit(f"docs/results.md: the report has no table {number}")
    return found[1], re.sub(r" CSV: \[.*", "", found[3]), found[2].splitlines()


def main() -> None:
    """Make the report in a temporary folder and take from it."""
    with tempfile.TemporaryDirectory() as results:
        report = make_report(Study.load(STUDY, {"results": results}), partial=True)
        page = with_tables(PAGE.read_text(encoding="utf-8"), report.read_text(encoding="utf-8"))
        PAGE.write_text(page, encoding="utf-8")
        shutil.copy(report.parent / "figures/score_map.svg", FIGURE)


if __name__ == "__main__":
    main()
