"""Write the tables and the figure of docs/results.md anew, from the results that this repository ships.

    .venv/bin/python docs/refresh_results.py

A table of the page begins with a marker, `<!-- published_means -->` (its id in the report), and ends with its last
row. Everything between is the report's; the text around it is written by hand.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qablate.analysis.collect import collect
from qablate.analysis.figure import render, style
from qablate.analysis.report import details_sections, report_sections, table_lines
from qablate.analysis.table import Figure, Part, Table
from qablate.study import Study

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results.md"
FIGURE = ROOT / "docs/figures/first_results.png"
STUDY = (ROOT / "config.yaml", ROOT / "workflow/studies/first_results.yaml")
MARKED = re.compile(r"^<!-- (?P<id>\w+) -->\n(?:^(?!\|).*\n)+(?:^\|.*\n)+", re.M)


def parts_of(study: Study) -> dict[str, Part]:
    """Tables and figures of a study's report and details, by id."""
    runs = collect(study)
    return {part.id: part for section in (*report_sections(runs), *details_sections(runs)) for part in section.parts
            if isinstance(part, (Table, Figure))}


def with_tables(page: str, parts: Mapping[str, Part]) -> str:
    """The page with each marked table as the report has it."""

    def table(marker: re.Match[str]) -> str:
        found = parts.get(marker["id"])
        if not isinstance(found, Table):
            sys.exit(f"docs/results.md: the report has no table {marker['id']}")
        return "\n".join([f"<!-- {found.id} -->", f"**{found.title}.** {found.caption}", "", *table_lines(found), ""])

    return MARKED.sub(table, page)


def main() -> None:
    """Make the parts of the report in a temporary folder and take from them."""
    with tempfile.TemporaryDirectory() as results:
        parts = parts_of(Study.load(STUDY, {"results": results}))
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")
        score_map = parts["score_map"]
        assert isinstance(score_map, Figure)
        with style():
            FIGURE.write_bytes(render(score_map.draw()))


if __name__ == "__main__":
    main()
