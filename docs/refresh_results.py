"""Write the tables and the figure of docs/results.md and docs/controls.md anew, from the results shipped here.

    .venv/bin/python docs/refresh_results.py

A table of a page begins with a marker, `<!-- first_results published_means -->` (a study of workflow/studies and the
table's id in its report), and ends with its last row. Everything between is the report's; the text around it is written
by hand.
"""

import functools
import re
import sys
import tempfile
from pathlib import Path

from qablate.analysis.collect import collect
from qablate.analysis.figure import render, style
from qablate.analysis.report import details_sections, report_sections, table_lines
from qablate.analysis.table import Figure, Part, Table
from qablate.study import Study

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs/results.md", ROOT / "docs/controls.md")
FIGURE = ROOT / "docs/figures/first_results.png"
MARKED = re.compile(r"^<!-- (?P<study>\w+) (?P<id>\w+) -->\n(?:^(?!\|).*\n)+(?:^\|.*\n)+", re.M)


@functools.cache
def parts_of(study: str) -> dict[str, Part]:
    """Tables of a study's report and details, and figures without a table of their name, from the shipped results."""
    files = [ROOT / "config.yaml", ROOT / f"workflow/studies/{study}.yaml"]
    with tempfile.TemporaryDirectory() as results:
        runs = collect(Study.load(files, {"results": results}))
        parts = [part for section in (*report_sections(runs), *details_sections(runs)) for part in section.parts]
        return {part.id: part for kind in (Figure, Table) for part in parts if isinstance(part, kind)}


def with_tables(page: str) -> str:
    """The page with each marked table as the report has it."""

    def table(marker: re.Match[str]) -> str:
        found = parts_of(marker["study"]).get(marker["id"])
        if not isinstance(found, Table):
            sys.exit(f"the report of {marker['study']} has no table {marker['id']}")
        return "\n".join([f"<!-- {marker['study']} {found.id} -->", f"**{found.title}.** {found.caption}", "",
                          *table_lines(found), ""])

    return MARKED.sub(table, page)


def main() -> None:
    """Write the pages and the figure."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    score_map = parts_of("first_results")["score_map"]
    assert isinstance(score_map, Figure)
    with style():
        FIGURE.write_bytes(render(score_map.draw()))


if __name__ == "__main__":
    main()
