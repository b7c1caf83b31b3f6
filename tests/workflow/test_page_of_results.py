"""`snakemake --report`: one page with the figures and tables of the last report, whole or partial."""

import json
import re
from pathlib import Path

from conftest import Workspace
from factories import write_results

from qablate.analysis import make_report


def files_of(page: Path) -> dict[str, dict]:
    """Everything the page holds, by path."""
    found = re.search(r"var results = (\{.*?\});?\s*</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def categories_of(page: Path) -> dict[str, dict[str, list[str]]]:
    found = re.search(r"var categories = (\{.*?\});?\s*</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_figures_and_tables_with_captions_categories_and_labels(tiny: Workspace) -> None:
    study = tiny.study
    write_results(study, study.cells[:3])
    make_report(study, partial=True)
    run = tiny.snakemake("progress", "--report", "page.html")
    assert run.code == 0, run.text
    assert len([line for line in run.text.splitlines() if not line.startswith("Adding ")]) < 10
    shown = files_of(tiny.folder / "page.html")
    folders = {path.relative_to(tiny.folder).as_posix() for ending in ("figures/*.png", "tables/*.csv")
               for path in study.results.glob(ending)}
    assert set(shown) == folders and len(folders) > 30
    table = shown["results/tables/scores_adding_problem.csv"]
    assert table["labels"] == {"title": "Mean test MSE"}
    assert "Smaller is better. Mean over seeds" in table["caption"]
    assert "--check" in shown["results/tables/datasets.csv"]["caption"]
    assert "system-message" not in str([item["caption"] for item in shown.values()])     # of reStructuredText
    figure = shown["results/figures/length_adding_problem.png"]
    assert figure["caption"].startswith("<p>Small points: runs") and figure["data_uri"].startswith("data:image/png")
    found = categories_of(tiny.folder / "page.html")
    numbers, sections = zip(*(name.split(" ", 1) for name in sorted(found)), strict=True)
    assert list(numbers) == [f"{place + 1:02}" for place in range(len(found))]
    read = re.findall("^## (.*)", (study.results / "progress_report.md").read_text(), re.M)
    assert [name for name in sections if name in read] == [name for name in read if name in sections]
    assert sections[:2] == ("Summary", "Answers") and sections[-1] == "Data" and len(sections) > 10
    results = next(name for name in found if name.endswith("Adding Problem results"))
    assert set(found[results]) == {"Figures", "Tables"}

    assert len(tiny.snakemake("-n").cells) == 1     # what is shown makes nothing run and holds nothing up
    write_results(study)
    assert tiny.snakemake("--cores", "1").code == 0
    assert "Nothing to be done" in tiny.snakemake("-n").text
    assert tiny.snakemake("--report", "whole.html").code == 0
    assert set(files_of(tiny.folder / "whole.html")) == folders
