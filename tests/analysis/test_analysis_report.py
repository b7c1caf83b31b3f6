"""The written report: every number traceable to a CSV, honest when incomplete, the same bytes for the same results."""

import csv
import html
import html.parser
import itertools
import json
import math
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from factories import published_study, record_of, schema1_of, small_study, write_results

from qablate.analysis import make_report
from qablate.analysis.findings import NO_FILE, OTHER_STUDY, Findings, belong, find, stated_totals
from qablate.analysis.old_claims import load_claims
from qablate.analysis.runs import collect
from qablate.analysis.sentences import QUESTIONS
from qablate.errors import QablateError
from qablate.records import write_record

NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: %)?")
FORBIDDEN = ("advantage", "quantum helps", "quantum benefit", "significant", "proves", "inverse scaling", "outperform",
             "classically hard", "winner", "medal", "pending", "**")
DEVICE = "A100"
"""A name, no number of the study."""
LEVEL = re.compile(r"\b9[05] % (?=t interval|band|of the offsets)")
"""How wide an interval is, no number of the study."""
ALLOWED = ("three significant digits",)


def written_study(results, rng_seed=3, **changes):
    """A small study with missing, diverged, unreadable and never-improved cells, written to disk."""
    study = small_study(results, **changes)
    rng = np.random.default_rng(rng_seed)
    for cell in study.cells:
        kind = rng.choice(["ok", "missing", "diverged", "no_improvement", "broken"], p=[0.75, 0.1, 0.05, 0.05, 0.05])
        if kind == "broken":
            study.result_path(cell).parent.mkdir(parents=True, exist_ok=True)
            study.result_path(cell).write_text("{ <b>no</b> | JSON")
        elif kind != "missing":
            write_record(study.result_path(cell), record_of(study, cell, status=str(kind)))
    return study


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    study = written_study(tmp_path_factory.mktemp("report") / "results")
    return study, make_report(study, partial=True)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rounds_to(token, value):
    """Whether a CSV value, rounded as the token is written, is the token; a word must contain it."""
    try:
        number = float(value)
    except ValueError:
        return token in value
    share = token.endswith(" %")
    digits = token.removesuffix(" %").replace(",", "")
    mantissa, _, power = digits.partition("e")
    step = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    return abs(float(digits) - number * (100 if share else 1)) <= 0.5 * step * (1 + 1e-9) + 1e-15


def tables_of(markdown):
    """Yield (CSV name, header cells, rows of cells) for each table of the report."""
    for block in re.split(r"^### Table ", markdown, flags=re.MULTILINE)[1:]:
        block = re.split(r"^## ", block, flags=re.MULTILINE)[0]
        lines = [line for line in block.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        yield re.search(r"\(tables/(\w+\.csv)\)", block)[1], cells[0] if cells else [], cells[2:]


def test_every_number_of_a_table_is_in_its_row_of_the_csv(written):
    study, report = written
    checked = 0
    for name, header, rows in tables_of(report.read_text(encoding="utf-8")):
        known = rows_of(study.results / "tables" / name)
        assert len(rows) == min(len(known), 60), name
        for cells, row in zip(rows, known, strict=False):
            for cell in cells:
                for token in NUMBER.findall(cell):
                    assert any(rounds_to(token, value) for value in row.values()), (name, token, cells)
                    checked += 1
        for token in NUMBER.findall(" ".join(header).replace(DEVICE, "")):
            assert any(token in column for column in known[0]), (name, token)
    assert checked > 1500


def test_a_changed_number_is_noticed(written):
    assert rounds_to("0.0123", "0.012345") and rounds_to("3.12e-4", "0.000312499") and rounds_to("12.5 %", "0.12549")
    assert rounds_to("1,234", "1234") and rounds_to("-0.50", "-0.4951") and rounds_to("+1.80", "1.8000001")
    assert not rounds_to("0.0124", "0.012345") and not rounds_to("3.13e-4", "0.000312499")
    assert not rounds_to("12.4 %", "0.12549") and not rounds_to("0.50", "-0.5")


def test_every_number_of_the_running_text_is_in_the_summary(written):
    study, report = written
    text = re.sub(r"```.*?```", "", report.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [re.sub(r"`[^`]*`|\([^)]*\.(?:csv|png)\)", "", line)
             for line in text.splitlines() if not line.startswith("|")]
    prose = re.sub(r"^### Table \w+:", "", "\n".join(lines), flags=re.MULTILINE).replace(DEVICE, "")
    prose = LEVEL.sub("", prose)
    known = [row["value"] for row in rows_of(study.results / "tables" / "summary.csv")]
    tokens = NUMBER.findall(prose)
    assert len(tokens) >= 5
    assert [token for token in tokens if not any(rounds_to(token, value) for value in known)] == []


class Tables(html.parser.HTMLParser):
    """Collect the rows of every table of a page."""

    def __init__(self):
        super().__init__()
        self.rows, self.cell = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def test_html_shows_the_same_tables_and_needs_no_network(written):
    study, report = written
    page, text = report.with_suffix(".html").read_text(encoding="utf-8"), report.read_text(encoding="utf-8")
    parser = Tables()
    parser.feed(page)
    shown = {tuple(row) for row in parser.rows}
    for _, header, rows in tables_of(text):
        for row in [header, *rows] if header else []:
            assert tuple(re.sub(r"\\(.)", r"\1", cell) for cell in row) in shown
    assert "<b>no</b>" not in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    drawn = {path.stem for path in (study.results / "figures").glob("*.png")}
    assert page.count("data:image/") == len(drawn)
    assert all(f'<figure id="{name}">' in page and f"](figures/{name}.png)" in text for name in drawn)
    assert text.count("Not drawn: ") == page.count("Not drawn: ") >= 2


def test_first_line_says_that_it_is_partial_and_how(written):
    study, report = written
    assert report.name == "progress_report.md"
    finished = sum(study.state_of(cell).state == "done" for cell in study.cells)
    missing = len(study.cells) - finished
    first = report.read_text(encoding="utf-8").splitlines()[0]
    assert first == (f"# Partial report of study `small`: {finished} of 144 cells finished, "
                     f"{missing} without a result that stands")


def test_words_that_a_report_without_claims_may_not_use(written):
    text = written[1].read_text(encoding="utf-8").lower()
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    assert [word for word in FORBIDDEN if word in text] == []
    assert not re.search(r"\bnan\b|\bnone\b|\bnat\b", text)


def test_figures_are_valid_and_have_their_csv(written):
    folder = written[0].results / "figures"
    names = {path.stem for path in folder.iterdir()}
    assert names >= {"score_map", "state_map", "forrelation_diagnostics", "length_forrelation", "length_adding_problem",
                     "length_selective_copy", "learning_forrelation", "learning_adding_problem",
                     "learning_selective_copy"}
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        assert rows_of(folder / f"{name}.csv")


def test_combined_report_refuses_missing_cells_and_writes_nothing(tmp_path):
    study = small_study(tmp_path / "results", models=["1a", "3b"], tasks={"adding_problem": {"lengths": [16]}})
    write_results(study, study.cells[1:])
    with pytest.raises(QablateError, match=r"1 of 4 cells .*1a_adding_problem_L16_seed2024 \(missing\)"):
        make_report(study, partial=False)
    assert not (study.results / "combined_report.md").exists()
    assert not (study.results / "tables").exists()


def test_combined_report_of_a_whole_study_counts_diverged_cells_as_finished(tmp_path):
    study = small_study(tmp_path / "results", models=["1a", "3b"], tasks={"adding_problem": {"lengths": [16]}})
    write_results(study, study.cells[1:])
    write_results(study, study.cells[:1], status="diverged")
    report = make_report(study, partial=False)
    assert report.name == "combined_report.md"
    assert report.read_text(encoding="utf-8").startswith("# Report of study `small`: all 4 cells finished\n")
    assert "Every planned cell is finished." in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("changes", [
    {},
    {"models": ["2e"], "seeds": [5], "tasks": {"selective_copy": {"lengths": [16], "n_markers": 8}}},
])
def test_report_of_a_study_without_results(tmp_path, changes):
    study = small_study(tmp_path / "results", **changes)
    text = make_report(study, partial=True).read_text(encoding="utf-8")
    assert text.startswith(f"# Partial report of study `small`: 0 of {len(study.cells)} cells finished")
    assert "– missing" in text


MAKE_REPORT = """
import json, sys
from pathlib import Path
from factories import small_study
from qablate.analysis import make_report
make_report(small_study(Path("results"), **json.loads(sys.argv[1])), partial=True)
print(*sorted({"torch", "pennylane"} & set(sys.modules)))
"""


def test_same_results_give_the_same_bytes(tmp_path):
    changes = {"models": ["1a", "2d", "3b"], "tasks": {"selective_copy": {"lengths": [16, 32], "n_markers": 8}}}
    study = written_study(tmp_path / "results", **changes)
    made = []
    for hash_seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", MAKE_REPORT, json.dumps(changes)], cwd=tmp_path, check=True,
                              capture_output=True, text=True,
                              env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])})
        assert done.stdout.strip() == ""     # neither torch nor PennyLane was imported
        outputs = [path for path in sorted(study.results.rglob("*")) if path.is_file()
                   and "synthetic_benchmarks" not in path.parts]
        made.append({path.relative_to(tmp_path): path.read_bytes() for path in outputs})
        time.sleep(1.1)     # a time of day in a file would now differ
    assert made[0] == made[1] and len(made[0]) > 15


def test_hostile_text_in_a_record_is_only_text(tmp_path):
    study = small_study(tmp_path / "results", models=["1a"], seeds=[1], tasks={"adding_problem": {"lengths": [16]}})
    nasty = "<script>alert(1)</script> | [link](http://x) `code`"
    write_results(study, provenance={"device_name": nasty, "source": "{{ 7 * 7 }}"})
    report = make_report(study, partial=False)
    page = report.with_suffix(".html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "{{ 7 * 7 }}" in page
    text = report.read_text(encoding="utf-8")
    assert "\\<script>" in text and "\\[link]" in text


@pytest.fixture(scope="module")
def claimed(tmp_path_factory):
    """Part of the published study: one task of twelve models, a few cells of another, one cell diverged."""
    study = published_study(tmp_path_factory.mktemp("claimed") / "results")
    copies = [cell for cell in study.cells if cell.task == "selective_copy"]
    write_results(study, copies[1:])
    write_results(study, copies[:1], status="diverged")
    write_results(study, [cell for cell in study.cells if cell.task == "adding_problem" and cell.model in ("1b", "3b")])
    report = make_report(study, partial=True)
    return study, report.read_text(encoding="utf-8"), report.with_suffix(".html").read_text(encoding="utf-8")


STANDALONE = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)")
FIXED_WORDS = ("95% interval", "90% interval", "power of .8", "R2", "R²")


def untraced(text, row):
    """Numbers of a claim's text that no number of its CSV row rounds to; counts of members are up to their number."""
    for word in (row["statement"], *FIXED_WORDS):
        text = text.replace(word, "")
    values = [value for key, value in row.items() if key not in ("sentence", "statement", "flags") and is_number(value)]
    counts = range(int(row["n"]) + 1) if row["kind"] in ("all_of", "any_of") else ()
    return [token for token in STANDALONE.findall(text.replace(" x", " "))
            if not any(rounds_to(token, value) for value in [*values, *map(str, counts)])]


def is_number(value):
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def test_every_number_of_a_claim_is_in_its_row_of_the_csv(claimed):
    study, text, _ = claimed
    known = {row["id"]: row for row in rows_of(study.results / "tables" / "claims.csv")}
    lines = [line for line in text.splitlines() if line.startswith("- `")]
    claims_part = text.split("\n## Claims\n")[1]
    rows = [line for line in claims_part.splitlines() if line.startswith("| ") and " ---" not in line]
    rows = [line for line in rows if not line.startswith("| claim |")]
    assert {line.split("`")[1] for line in lines} == set(known) == {line.split(" |")[0][2:] for line in rows}
    for line in lines:
        row = known[line.split("`")[1]]
        assert row["statement"] in line and row["sentence"] in line
        assert untraced(line.split("`", 2)[2], row) == [], line
    for line in rows:
        name, _, cells = line[2:].partition(" | ")
        assert untraced(cells, known[name]) == [], line
    assert sum(len(STANDALONE.findall(line)) for line in [*lines, *rows]) > 500
    decided = next(row for row in known.values() if is_number(row["estimate"]))
    assert untraced("an effect of +0.98765", decided) == ["+0.98765"]


def to_settle_on_first_page(text):
    """Pairs of claim and what would settle it: lines below an undecided claim, rows of those without enough data."""
    lines = text.split("## How to read this")[0].splitlines()
    for line, following in itertools.pairwise(lines):
        if following.startswith("  To settle: "):
            yield line.split("`")[1], following.removeprefix("  To settle: ").removesuffix(".")
        if line.startswith("| `"):
            ids, told, _ = line.strip("| ").split(" | ")
            yield from ((name, told) for name in re.findall(r"`([^`]+)`", ids))


def test_every_number_of_what_would_settle_a_claim_is_in_a_csv(claimed):
    study, text, page = claimed
    known = {row["id"]: row for row in rows_of(study.results / "tables" / "power.csv")}
    settled = set()
    for claim, told in to_settle_on_first_page(text):
        row = known[claim]
        assert told == (row["to_settle"] or "–")
        values = [value for key, value in row.items() if key != "to_settle" and is_number(value)]
        numbers = STANDALONE.findall(re.sub(r"\b\d[a-e](?:-\w+)?\b", "", told))
        assert [n for n in numbers if not any(rounds_to(n, v) for v in values)] == [], told
        assert html.escape(told, quote=False) in page
        settled |= {claim} if row["to_settle"] else set()
    asked = {key for _, keys in QUESTIONS for key in keys}
    assert settled == {key for key in known if key in asked and known[key]["to_settle"]} and len(settled) > 20


def test_controls_are_counted_on_the_first_page(claimed):
    study, text, _ = claimed
    line = next(line for line in text.splitlines() if line.startswith("Controls that"))
    for row in rows_of(study.results / "tables" / "controls.csv"):
        assert f"{row['control'].replace('_', ' ')} {row['complete']} of {row['cells']}" in line
    assert "chunk sweep 3 of 24" in line and line.endswith("about these twelve models only.")


def test_counts_of_verdicts_are_those_of_the_csv(claimed):
    study, text, _ = claimed
    verdicts = {row["id"]: row["verdict"] for row in rows_of(study.results / "tables" / "claims.csv")}
    for block in text.split("\n## Claims\n")[1].split("\n## ")[0].split("\n### ")[1:]:
        total, _, counts = re.search(r"<summary>(.*)</summary>", block)[1].partition(" claims: ")
        ids = [line.split("`")[1] for line in block.splitlines() if line.startswith("- `")]
        assert len(ids) == int(total)
        for part in counts.split(", "):
            number, verdict = part.split(" ", 1)
            verdict = verdict.replace("values only", "descriptive")
            assert sum(verdicts[key] == verdict for key in ids) == int(number)


def test_first_page_asks_the_questions_and_each_is_answered(claimed):
    _, text, page = claimed
    first = text.split("\n## How to read this")[0]
    for question, keys in QUESTIONS:
        answer = first.split(f"### {question}\n")[1].split("\n### ")[0]
        assert all(f"`{key}`" in answer for key in keys)
        assert question in page
    assert not re.search(r"\bnan\b|\{\{|\}\}", text)
    assert "quantum advantage" not in text.lower()


def test_claims_are_written_beside_the_tables(claimed):
    folder = claimed[0].results / "tables"
    records = [json.loads(line) for line in (folder / "claims.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["id"] for record in records] == [row["id"] for row in rows_of(folder / "claims.csv")]
    assert rows_of(folder / "claim_details.csv") and rows_of(folder / "shares_by_run.csv")
    assert {record["verdict"] for record in records} >= {"not enough data", "undecided"}


def test_parameter_counts_of_the_document_are_held_against_the_runs(claimed):
    details = [row for row in rows_of(claimed[0].results / "tables" / "claim_details.csv") if row["id"] == "FD25"]
    assert len(details) == 12 and {float(row["stated"]) for row in details} >= {338_000, 37_000}


def test_totals_of_a_system_are_compared_where_its_runs_are_those_in_use(tmp_path):
    study = published_study(tmp_path / "results", systems={"nersc": {"results": str(tmp_path / "nersc")}})
    there = tmp_path / "nersc"
    there.mkdir()
    assert set(stated_totals(collect(study))["quantity"]) == {"n_params_total"}
    first = study.cell("1b", "adding_problem", 100, 2024)
    (there / first.result_name).write_text(json.dumps(schema1_of(record_of(study, first))))
    totals = stated_totals(collect(study)).set_index("quantity").loc["cells_complete_by_system"]
    assert (totals["system"], totals["task"], totals["value"]) == ("nersc", "adding_problem", 55)


def test_claims_belong_to_the_published_study(tmp_path, monkeypatch):
    study = small_study(tmp_path / "results", models=["1a"], tasks={"adding_problem": {"lengths": [16]}})
    assert find(collect(study)) == Findings(note=OTHER_STUDY)
    training = {**study.config["training"], "recipe": "published"}
    assert not belong(load_claims(), published_study(tmp_path, training={**training, "recipe": "demo"}))
    assert not belong(load_claims(), published_study(tmp_path, data={"n_samples": 500}))
    assert not belong(load_claims(), published_study(tmp_path, seeds=[2024, 2025]))
    assert belong(load_claims(), published_study(tmp_path, models=["1a"]))
    monkeypatch.chdir(tmp_path)
    assert find(collect(study)) == Findings(note=NO_FILE)


@pytest.mark.full
def test_report_of_all_396_cells_in_under_a_minute(tmp_path):
    study = published_study(tmp_path / "results")
    write_results(study)
    start = time.process_time()
    make_report(study, partial=False)
    assert time.process_time() - start < 60
