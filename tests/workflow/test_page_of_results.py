"""`snakemake --report`: one page with the figures and tables of the last report, whole or partial."""

import json
import re
from pathlib import Path

from factories import write_results
from working_folder import WorkingFolder

from qablate.analysis import make_report


def held(page: Path, name: str) -> dict[str, dict]:
    """`results` (every file of the page, by path) or `categories`, as its script has them."""
    found = re.search(rf"var {name} = (\{{.*?\}});?\s*</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_figures_and_tables_with_captions_categories_and_labels(tiny: WorkingFolder) -> None:
    study = tiny.study
    write_results(study, study.cells[:3])
    make_report(study, partial=True)
    run = tiny.run("progress", "--report", "page.html")
    assert run.code == 0, run.text
    assert len([line for line in run.text.splitlines() if not line.startswith("Adding ")]) < 10
    shown = held(tiny.folder / "page.html", "results")
    folders = {path.relative_to(tiny.folder).as_posix() for ending in ("figures/*.png", "tables/*.csv")
               for path in study.results.glob(ending)}
    assert set(shown) == folders and len(folders) > 20
    table = shown["results/tables/scores_adding_problem.csv"]
    assert table["labels"] == {"title": "Mean test MSE"}
    assert "Smaller is better. Mean over seeds" in table["caption"]
    assert "--check" in shown["results/tables/datasets.csv"]["caption"]
    assert "system-message" not in str([item["caption"] for item in shown.values()])     # of reStructuredText
    figure = shown["results/figures/length_adding_problem.png"]
    assert figure["caption"].startswith("<p>Small points: runs") and figure["data_uri"].startswith("data:image/png")
    found = held(tiny.folder / "page.html", "categories")
    numbers, sections = zip(*(name.split(" ", 1) for name in sorted(found)), strict=True)
    assert list(numbers) == [f"{place + 1:02}" for place in range(len(found))]
    read = re.findall("^## (.*)", (study.results / "progress_report.md").read_text(), re.M)
    assert [name for name in sections if name in read] == [name for name in read if name in sections]
    assert sections[0] == "Summary" and sections[-1] == "Data" and len(sections) > 10
    results = next(name for name in found if name.endswith("Adding Problem results"))
    assert set(found[results]) == {"Figures", "Tables"}

    assert len(tiny.run("-n").cells) == 1     # what is shown makes nothing run and holds nothing up
    write_results(study)
    assert tiny.run("--cores", "1").code == 0
    assert "Nothing to be done" in tiny.run("-n").text
    assert tiny.run("--report", "whole.html").code == 0
    assert set(held(tiny.folder / "whole.html", "results")) == folders
