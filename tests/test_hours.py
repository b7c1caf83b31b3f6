"""The cost table: what it says of a cell it holds, of one it does not, and of a file that is wrong."""

import csv
from pathlib import Path

import pytest
from factories import published_study

from qablate.errors import QablateError
from qablate.files import packaged_text
from qablate.hours import COLUMNS, COSTS_PATH, HOUR, CostRow, CostTable, to_csv, with_rows
from qablate.jobs import START_MINUTES, STEP, Jobs
from qablate.status.survey import survey

ROOT = Path(__file__).parents[1]


def row(model="1b", task="adding_problem", length=100, seconds=2.0, epochs=None, device="cpu"):
    return CostRow(device, model, task, length, seconds, epochs, "measured")


TABLE = CostTable(
    [row(), row(length=400, seconds=5.0), row(task="selective_copy", length=1000, seconds=9.0, epochs=30)]
)


@pytest.mark.parametrize(
    ("task", "length", "seconds"),
    [("adding_problem", 100, 2.0), ("adding_problem", 150, 3.0), ("adding_problem", 300, 5.0),    # of L = 400
     ("adding_problem", 50, 2.0), ("adding_problem", 1000, 12.5), ("forrelation", 200, 4.0)],    # of another task
)
def test_the_nearest_length_stands_in(task, length, seconds):
    assert TABLE.estimate("cpu", "1b", task, length, max_epochs=100).seconds_per_epoch == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("task", "used", "limit", "epochs"),
    [("adding_problem", 12, 100, 12), ("selective_copy", None, 100, 30), ("adding_problem", None, 100, 47),
     ("forrelation", None, 100, 100), ("adding_problem", None, 6, 6)],
    ids=["results at hand", "the table", "published logs", "the recipe", "the recipe's limit"],
)
def test_epochs_come_from_the_best_source(task, used, limit, epochs):
    assert TABLE.estimate("cpu", "1b", task, 1000, limit, epochs_used=used).epochs == epochs


def test_the_file_gives_back_the_rows(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_bytes(to_csv(with_rows(TABLE, [row(seconds=3.0)])))
    table = CostTable.read(path)
    assert len(table.rows) == len(TABLE.rows)
    assert table.rows[0] == row(seconds=3.0)


HEAD = ",".join(COLUMNS)


@pytest.mark.parametrize(("text", "words"), [
    (f"{HEAD}\ncpu,1b,adding_problem,100,-1,,x\n", "line 2"),
    (f"{HEAD}\ncpu,1b,adding_problem,100,nan,,x\n", "line 2"),
    (f"{HEAD}\ncpu,1b,adding_problem,long,1,,x\n", "line 2"),
    (f"{HEAD}\ncpu,9z,adding_problem,100,1,,x\n", "line 2: unknown model '9z'"),
    (f"{HEAD}\ncpu,1b,adding_problem\n", "line 2"),
    ("device,model\n", "no column task"),
])
def test_what_is_wrong_is_named(tmp_path, text, words):
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(QablateError, match=rf"costs\.csv.*{words}"):
        CostTable.read(path)


def test_the_published_costs_are_those_that_the_report_compares_with():
    """Both are the same logs: the table is for plans and gives way to measurements, the other one stays as it is."""
    lines = csv.DictReader(packaged_text("goldens/published_epochs.csv").splitlines())
    published = {(line["model"], int(line["length"])): float(line["seconds_per_epoch"]) for line in lines}
    rows = [row for row in CostTable.read(ROOT / COSTS_PATH).rows if row.source.startswith("published code")]
    assert {(row.model, row.length): row.seconds_per_epoch for row in rows}.items() <= published.items()


def test_jobs_ask_for_the_hours_that_status_tells(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = published_study(tmp_path, jobs={"cost_device": "published code on A100-SXM4-80GB", "margin": 1.5,
                                            "max_minutes": 10**6, "launcher": ""})
    jobs, cells = Jobs(study), survey(study, CostTable.at_hand(), ask_slurm=False).cells
    for status in cells:
        asked = (jobs.minutes(status.cell, 1) - START_MINUTES) / 60 / 1.5
        assert -1e-9 < asked - status.left.expected < STEP * 60 / HOUR
    assert len(cells) == 396
