"""A report leaves no table or figure of an earlier one beside its own, and touches nothing else."""

import csv
import json

from factories import published_study, record_of, schema1_of, small_study, write_results

from qablate.analysis import make_report
from qablate.analysis.contents import replace_contents


def files_of(study):
    return {f"{folder}/{path.name}" for folder in ("tables", "figures") for path in (study.results / folder).iterdir()}


def listed(study):
    with (study.results / "tables/contents.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_what_another_study_left_is_deleted_and_nothing_else(tmp_path):
    two = published_study(tmp_path / "results", models=["1a"], systems={"dgx": {"results": str(tmp_path / "dgx")}})
    cell = two.cell("1a", "adding_problem", 100, 2024)
    write_results(two, [cell])
    (tmp_path / "dgx").mkdir()
    (tmp_path / "dgx" / cell.result_name).write_text(json.dumps(schema1_of(record_of(two, cell, test_mse=0.5))))
    make_report(two, partial=True)
    tables, figures = two.results / "tables", two.results / "figures"
    gone = {"figures/system_agreement.png", "figures/length_forrelation.svg", "tables/claims.csv",
            "tables/claims.jsonl", "tables/forrelation_by_length.csv"}
    assert gone <= files_of(two) == set(listed(two))
    mine = [tables / "mine.csv", figures / "mine.png", tmp_path / "outside.csv", tables / "claim_details.csv"]
    for path in mine:
        path.write_text("not of the report")    # the last one was, before somebody wrote over it
    with (tables / "contents.csv").open("a", encoding="utf-8") as file:
        file.write("../outside.csv,table,x,,,,,00\ntables/mine.csv,table,x,,,,,00\n")
    one = small_study(tmp_path / "results", models=["1a"], tasks={"adding_problem": {"lengths": [16]}})
    make_report(one, partial=True)
    left = files_of(one)
    assert not gone & left
    assert left == set(listed(one)) | {"tables/mine.csv", "figures/mine.png", "tables/claim_details.csv"}
    assert {path.read_text() for path in mine} == {"not of the report"}


def test_the_list_says_what_each_file_is(tmp_path):
    study = small_study(tmp_path / "results", models=["1a"], tasks={"adding_problem": {"lengths": [16]}})
    report = make_report(study, partial=True).read_text(encoding="utf-8")
    for row in listed(study).values():
        assert row["title"] and row["section"], row["file"]
        if row["kind"] == "table":
            assert f"### Table {row['number']}: {row['title']}" in report
            assert f"## {row['section']}" in report


def test_a_list_that_cannot_be_read_deletes_nothing(tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "runs.csv").write_text("")
    for content in (b"\xff\xfe\x00", b"", b"a,b\n1,2\n", b"file,sha256\n\"x\n", b"file,sha256\ntables/runs.csv\n"):
        (tables / "contents.csv").write_bytes(content)
        replace_contents(tmp_path, [])
        assert {path.name for path in tables.iterdir()} == {"contents.csv", "runs.csv"}
