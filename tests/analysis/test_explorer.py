"""The explorer: every cell in one page that needs no network, and what a reader does with it in a browser."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from factories import published_study
from test_report import ROOT, SHIPPED, shipped

from qablate.analysis import make_report, report
from qablate.analysis.collect import CELL, HISTORY, collect
from qablate.analysis.explorer import explorer_page
from qablate.study import Study

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """The explorer's file in a report on the cells that this repository ships."""
    study = shipped(tmp_path_factory.mktemp("explorer") / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "render", lambda *_: b"a figure")    # the explorer has none of them
        make_report(study, partial=True)
    return study.results / "report/explorer.html"


def test_page_has_every_cell_its_curve_and_no_network_address(explorer):
    page, cells = explorer.read_text(encoding="utf-8"), Study.load(SHIPPED).cells
    rows = re.findall(r'<tr data-model="(\S+) .*?" data-task="(.*?)" data-length="(\d+)" data-seed="(\d+)"', page)
    titles = {"forrelation": "Forrelation", "adding_problem": "Adding Problem", "selective_copy": "Selective Copy"}
    assert set(rows) == {(cell.model, titles[cell.task], str(cell.length), str(cell.seed)) for cell in cells}
    assert len(rows) == len(cells) == 396
    with_curve = set(re.findall(r'<td><label><input type="checkbox" value="(\d+)"', page))
    files = list((ROOT / "results/systems/cpu").glob("*.json"))
    assert len(with_curve) == page.count('data-system="cpu"') == len(files) > 100
    ours = re.sub(r"/\* BEGIN bokeh.*?END bokeh", "", page, flags=re.DOTALL)
    assert len(page) - len(ours) > 1e6 and "//" not in re.sub(r"^ *//.*|http://www\.w3\.org", "", ours, flags=re.M)


def test_first_page_leads_to_the_explorer_and_back(explorer):
    assert '<a href="report/explorer.html">' in (explorer.parents[1] / "progress_report.html").read_text()
    assert '<a href="../progress_report.html">' in explorer.read_text()


def test_a_page_of_full_length_curves_stays_below_5_mb(tmp_path):
    runs = collect(published_study(tmp_path))
    curves = runs.cells[CELL].merge(pd.DataFrame({"epoch": range(1, 101)}), how="cross")
    drawn = np.random.default_rng(1).random((len(curves), len(HISTORY)))
    vars(runs)["curves"] = curves.assign(**dict(zip(HISTORY, drawn.T, strict=True)))
    page = explorer_page(runs, "title", "report.html")
    assert page.count('<td><label><input type="checkbox"') == 396
    assert len(page.encode()) < 5e6


@pytest.fixture(scope="module")
def browser():
    """A headless browser: `pip install playwright`, and Chromium of the system or of `playwright install chromium`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser starts: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def look(browser, explorer):
    """Open the page offline in a window of a width and colour scheme, once its curves are drawn."""
    opened = []

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("pageerror", lambda error: opened.append(str(error)))
        page.on("request", lambda request: opened.append(request.url))
        page.goto(explorer.as_uri())
        page.wait_for_function("document.getElementById('count').textContent !== ''")
        return page

    yield open_page
    assert set(opened) == {explorer.as_uri()}    # no error, no other file


def count(page):
    """Cells in the table and cells chosen, as the page says."""
    return tuple(map(int, re.fullmatch(r"(\d+) of 396 cells in the table, (\d+) chosen",
                                       page.text_content("#count")).groups()))


def of_plot(page, script):
    return page.evaluate(f"() => {{ const plot = Bokeh.documents[0].get_model_by_name('log'); return {script}; }}")


def test_filters_and_choices_decide_what_is_shown(look):
    page, first = look(), list((ROOT / "results/systems/cpu").glob("*_adding_problem_L100_seed2024_results.json"))
    assert count(page) == (396, len(first))
    page.click("#none")
    page.click("label:has-text('1b Q→C') >> nth=0")
    page.click("label:text-is('2025')")
    assert count(page) == (11, 0)
    assert page.locator(".cells tbody tr:visible").count() == 11
    page.click("#all")
    drawn, names = of_plot(page, "[plot.renderers[0].view.filter.indices, plot.renderers[0].data_source.data.cell]")
    shown = [names[place] for place in drawn]
    assert len(shown) == count(page)[1] > 3
    assert all(cell.startswith("1b ") and cell.endswith("seed 2025") for cell in shown)
    page.click(".cells tbody tr:visible input >> nth=0")
    assert count(page) == (11, len(shown) - 1)
    page.click("text=Clear filters")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('396')")


def test_curve_and_scale_can_be_changed_and_a_header_sorts(look):
    page = look()
    page.select_option("#measure", "lr")
    assert of_plot(page, "[plot.renderers[0].glyph.ys.field, plot.left[0].axis_label]") == ["lr", "learning rate"]
    page.uncheck("#log")
    assert not of_plot(page, "plot.visible")
    page.click("th:text-is('Score')")
    scores = [float(text) for text in page.locator(".cells td:nth-child(7)").all_inner_texts() if text]
    assert scores == sorted(scores) and len(scores) > 100


def test_keyboard_alone_filters_chooses_and_zooms(look):
    page = look()
    page.focus("#filters input")
    page.keyboard.press("Space")
    assert count(page)[0] == 33
    page.focus("#none")
    page.keyboard.press("Enter")
    page.focus("#all")
    page.keyboard.press("Enter")
    assert count(page)[1] > 3
    page.wait_for_function("isFinite(Bokeh.documents[0].get_model_by_name('log').x_range.start)")
    before = of_plot(page, "plot.x_range.end - plot.x_range.start")
    page.locator("[title='Zoom In']:visible").focus()
    page.keyboard.press("Enter")
    assert of_plot(page, "plot.x_range.end - plot.x_range.start") < before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only_and_dark_is_dark(look, scheme):
    page = look(390, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paper, filtered = page.evaluate("""() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.getElementById("curves")).filter]""")
    assert (paper == "rgb(255, 255, 255)") == (filtered == "none") == (scheme == "light")


def test_the_tooltip_names_the_curve_under_the_pointer(look):
    page = look()
    page.click("#none")
    page.click(".cells tbody tr:visible input >> nth=0")
    plot = page.locator(".bk-events:visible").bounding_box()
    tooltip = page.locator(".bk-tooltip-content:visible")
    for height in range(20, int(plot["height"]), 4):
        page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + height)
        if tooltip.count():
            break
    words = tooltip.inner_text()
    assert re.search(r"1a Q→C, Adding Problem, length 100, seed 2024\s+epoch:\s+\d+\s+value:\s+0\.\d+", words), words
