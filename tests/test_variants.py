"""Variants of models and tasks: tokens, settings, files, judging, costs, and a study of them end to end."""

import json
from pathlib import Path

import pytest
import yaml
from factories import CONFIG, record_of, small_study, write_results
from hypothesis import given
from hypothesis import strategies as st
from tiny import SMALL_MODEL

import qablate
from qablate import checks
from qablate.catalog import MODELS, TAG, TASKS, model_info, task_info
from qablate.cli import main
from qablate.config import load_config, read_yaml
from qablate.errors import QablateError
from qablate.hours import CostRow, CostTable
from qablate.plan import Plan
from qablate.records import RESULT_NAME, RecordError, check_record, write_record
from qablate.results import checks_path, state_of
from qablate.study import Study
from qablate.training.cell import train_cell
from qablate.variants import join_token, split_token

ROOT = CONFIG.parent
LONG = "long" * 20
TAGS = {
    "variants": {"tanh": {"model": {"circuit": "tanh"}}, "chunk8": {"model": {"chunk": 8}},
                 "quarter": {"model": {"chunk": "L/4"}}, "frozen": {"model": {"train_angles": False}},
                 "slow": {"training": {"learning_rate": 3e-4}}, "chunk32": {"model": {"chunk": 32}},
                 "nohand": {"model": {"hand_over": False}}, "d44": {"model": {"d_model": 44}},
                 "state8": {"model": {"d_state": 8}}, "deep": {"model": {"n_layers": 3}},
                 LONG: {"model": {"dropout": 0.2}}},
    "task_variants": {"n3": {"forrelation": {"n_bits": 3}}, "n6": {"forrelation": {"n_bits": 6}},
                      "more": {"forrelation": {"n_train": 400}, "selective_copy": {"n_train": 400}},
                      "sorted": {"forrelation": {"order": "sorted"}}, "few": {"forrelation": {"n_train": 20}}},
}
STUDIES = {"chunks": (39, 33), "quarters": (18, 9), "twins": (200, 144), "frozen": (36, 18), "widths": (54, 36),
           "ladder": (135, 90), "rates": (36, 24), "seeds_1a": (20, 0)}
"""Cells of each control study, and how many of them are variants."""


def study_of(tmp_path: Path, models=("1b", "1b-tanh", "1b-tanh-chunk8", "1b-quarter", "1b-slow"), tasks=None,
             **changes) -> Study:
    tasks = tasks or {"selective_copy": {"lengths": [16]}, "forrelation-n3": {"lengths": [16]}}
    return small_study(tmp_path, models=list(models), tasks=tasks, seeds=[2024], **{**TAGS, **changes})


tags = st.lists(st.from_regex(TAG, fullmatch=True), max_size=4).map(tuple)


@given(st.sampled_from(list(MODELS)), tags, st.sampled_from(list(TASKS)), tags)
def test_names_of_files_tell_their_cell(model, model_tags, task, task_tags):
    cell = qablate.study.Cell(join_token(model, model_tags), join_token(task, task_tags), 100, 2024)
    assert (split_token(cell.model), split_token(cell.task)) == ((model, model_tags), (task, task_tags))
    found = RESULT_NAME.fullmatch(cell.result_name)
    assert (found["model"], found["task"], found["length"], found["seed"]) == (cell.model, cell.task, "100", "2024")


def test_a_token_finds_its_base_and_keeps_its_name_apart():
    assert (model_info("1b-tanh").id, model_info("1b-tanh").name) == ("1b", "QuantumMambaSSM-tanh")
    assert (task_info("forrelation-n3").id, task_info("forrelation-n3").title) == ("forrelation", "Forrelation-n3")
    assert "1b-tanh" not in MODELS and "forrelation-n3" not in TASKS
    with pytest.raises(QablateError, match="unknown model '9z-tanh'"):
        model_info("9z-tanh")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"models": ["1b-chunk9"]}, "models.0: 1b-chunk9: unknown tag 'chunk9', did you mean 'chunk8'"),
        ({"models": ["1b-chunk8-tanh"]}, "write 1b-tanh-chunk8"),
        ({"models": ["1b-tanh-tanh"]}, "write 1b-tanh"),
        ({"models": ["1b-chunk8-quarter"]}, "'chunk8' and 'quarter' both set chunk"),
        ({"models": ["1b-chunk32"]}, "tag 'chunk32' changes nothing, chunk of 1b is 32 already"),
        ({"models": ["3a-tanh"]}, "tag 'tanh' has no effect, 3a has no circuit"),
        ({"models": ["3b-deep"]}, "tag 'deep' has no effect, 3b has no circuit"),
        ({"models": [f"1b-{LONG}"]}, "models.0: 1b-longlonglonglongl...: 83 characters, in file names 80 are allowed"),
        ({"models": ["2d-nohand"]}, "tag 'nohand' has no effect, in 2d no circuit hands"),
        ({"models": ["2d-state8"]}, "tag 'state8' has no effect, 2d has no recurrent state"),
        ({"models": ["1b-quarter"], "tasks": {"forrelation": {"lengths": [50, 2]}}},
         "models.0: 1b-quarter: tag 'quarter': chunk L/4 of 2 steps is less than one step"),
        ({"tasks": {"forrelation": {"lengths": [64, 50], "order": "sorted"}}},
         "tasks.forrelation: a sorted table of 64 entries has length 64, not 50"),
        ({"tasks": {"forrelation-sorted": {"lengths": [64], "encoding": "onehot"}}},
         "tasks.forrelation-sorted: a sorted table has no addresses to encode"),
        ({"models": ["1b-d44"]}, "d_model 44 must be a multiple of 8"),
        ({"models": ["9z-tanh"]}, "models.0: '9z-tanh' is not allowed, one of 1a"),
        ({"models": ["1b", "1b"]}, "models"),
        ({"models": ["1b_tanh!"]}, "models.0"),
        ({"variants": {"Tanh": {"model": {"circuit": "tanh"}}}}, "Tanh"),
        ({"variants": {"x": {"model": {"circuit": "tanhh"}}}}, "variants.x.model.circuit: 'tanhh' is not allowed"),
        ({"variants": {"x": {"model": {"chunk": "L/0"}}}}, "variants.x.model.chunk"),
        ({"variants": {"x": {"model": {"chunk": 100001}}}}, "chunk: 100001 is not allowed (maximum: 100000)"),
        ({"variants": {"x": {}}}, "variants.x"),
        ({"tasks": {"forrelation-n6": {"lengths": [50]}}}, "tag 'n6' changes nothing, n_bits of forrelation is 6"),
        ({"tasks": {"forrelation-n4": {"lengths": [50]}}}, "forrelation-n4: unknown tag 'n4', known are n3, n6"),
        ({"tasks": {"selective_copy-n3": {"lengths": [50]}}}, "'n3' has no effect, it says nothing of selective_copy"),
        ({"tasks": {"forrelation-n3": {"lengths": [50], "n_bits": 4}}}, "both set n_bits"),
        ({"tasks": {"forrelation-few": {"lengths": [50]}}}, "n_train 20 is below the 4000"),
        ({"tasks": {"sorting-n3": {"lengths": [50]}}}, "tasks.sorting-n3: unknown key"),
        ({"tasks": dict.fromkeys(TASKS)}, "tasks"),
        ({"assign": {"overrides": [{"system": "local", "models": ["1b-chunk9"]}]}}, "unknown tag 'chunk9'"),
    ],
)
def test_what_no_variant_is_is_one_line(changes, expected):
    with pytest.raises(QablateError) as caught:
        load_config([CONFIG], {**TAGS, **changes})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_overlay_takes_a_task_out(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("tasks: {forrelation: null, adding_problem: null}")
    assert set(Study.load([CONFIG, overlay]).config["tasks"]) == {"selective_copy"}


def test_a_variant_changes_its_settings_and_nothing_else(tmp_path):
    study = study_of(tmp_path, tasks={"selective_copy": {"lengths": [16, 32]}})
    base, both, slow = (study.settings_of(study.cell(model, "selective_copy", 16, 2024))
                        for model in ("1b", "1b-tanh-chunk8", "1b-slow"))
    assert both == {**base, "model.circuit": "tanh", "model.chunk": 8}
    assert slow == {**base, "training.learning_rate": 3e-4, "training.recipe": "demo+slow"}
    assert [study.chunk("1b-quarter", length) for length in (16, 32)] == [4, 8]
    cells = [study.cell(model, "selective_copy", 16, 2024) for model in study.config["models"]]
    for told in (study.cell_key, study.settings_sha256, lambda cell: str(study.result_path(cell))):
        assert len({told(cell) for cell in cells}) == len(cells)
    assert len({study.dataset_path(cell) for cell in cells}) == 1    # data and split are shared by a block


def test_a_variant_of_a_task_has_its_own_items(tmp_path):
    study = study_of(tmp_path, tasks={"forrelation-n3": {"lengths": [16]}, "forrelation-n3-more": {"lengths": [16]}})
    plain, more = study.datasets
    assert (plain.task, plain.parameters["n_bits"], plain.n_channels) == ("forrelation", 3, 8)
    assert (more.split_sizes, study.n_items("forrelation-n3-more")) == ((400, 20, 20), 440)
    assert [Plan(study).task_of[str(spec.path(tmp_path))] for spec in study.datasets] == list(study.config["tasks"])


def test_a_redefined_tag_makes_its_results_stale_and_no_others(tmp_path):
    study = study_of(tmp_path)
    write_results(study)
    assert {state_of(study, cell).state for cell in study.cells} == {"done"}
    changed = study_of(tmp_path, variants={**TAGS["variants"], "chunk8": {"model": {"chunk": 4}}},
                       task_variants={"n3": {"forrelation": {"n_bits": 4}}})
    for cell in changed.cells:
        stale = cell.model == "1b-tanh-chunk8" or cell.task == "forrelation-n3"
        assert state_of(changed, cell).state == ("stale" if stale else "done"), cell
    reason = state_of(changed, changed.cell("1b-tanh-chunk8", "selective_copy", 16, 2024)).reason
    assert "model.chunk is 8, the study has 4" in reason


@pytest.mark.parametrize("key", ["chunk", "circuit", "train_angles"])
def test_a_result_is_judged_against_what_its_name_says(tmp_path, key):
    study = study_of(tmp_path)
    cell = study.cell("1b", "selective_copy", 16, 2024)
    other = {"chunk": 8, "circuit": "tanh", "train_angles": False}[key]
    write_record(study.result_path(cell), record_of(study, cell, model_config={key: other}))
    assert f"model.{key} is {other!r}" in state_of(study, cell).reason


def test_a_record_whose_name_and_tags_differ_is_none(tmp_path):
    study = study_of(tmp_path)
    cell = study.cell("1b-tanh", "forrelation-n3", 16, 2024)
    record = record_of(study, cell)
    for change in ({"model_variant": None}, {"task_variant": None},
                   {"model_variant": {**record["model_variant"], "tags": ["chunk8"]}},
                   {"model_variant": {**record["model_variant"], "settings": {"model.circuit": "linear"}}}):
        with pytest.raises(RecordError, match=next(iter(change))):
            check_record({**record, **change}, tmp_path)


def test_a_variant_costs_what_its_base_does_until_it_is_measured():
    base = CostRow("cpu", "1b", "forrelation", 50, 2.0, 40, "measured")
    own = CostRow("cpu", "1b-tanh", "forrelation-n3", 50, 1.0, 30, "measured")
    for rows, seconds in (([base], 80.0), ([base, own], 30.0)):
        assert CostTable(rows).estimate("cpu", "1b-tanh", "forrelation-n3", 50, 100).seconds == seconds
    assert CostTable([own]).estimate("cpu", "1b", "forrelation", 50, 100) is None


@pytest.mark.parametrize("name", STUDIES)
def test_control_studies_hold_what_they_say(name, monkeypatch):
    """`predictions` stand in the file; on a fresh clone no shipped result is trained again."""
    monkeypatch.chdir(ROOT)
    study = Study.load(["config.yaml", f"workflow/studies/{name}.yaml"], {"results": "results/controls/fresh"})
    variants = [cell for cell in study.cells if "-" in cell.model + cell.task]
    assert (len(study.cells), len(variants)) == STUDIES[name]
    assert study.config["predictions"]
    shipped = {path.name for path in Path("results/systems").glob("*/*.json")} if study.config["systems"] else set()
    missing = {cell.result_name for cell in Plan(study).to_train}
    assert missing == {cell.result_name for cell in study.cells} - shipped


def test_a_study_of_base_and_variants_end_to_end(tmp_path, monkeypatch, capsys):
    config = {**read_yaml(CONFIG), "results": "results", "system": "local", "seeds": [2024], "model": SMALL_MODEL,
              "models": ["4d", "4d-tanh", "4d-nohand"], "data": {"n_samples": 120}, "legacy_metric": False,
              "tasks": {"selective_copy": {"lengths": [16]}, "forrelation-n3": {"lengths": [16]}}, **TAGS,
              "predictions": ["4d-tanh does as well as 4d."]}
    config["training"] |= {"recipe": "tiny", "max_epochs": 1, "batch_size": 40}
    config["run"] |= {"device": "cpu"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    study = Study.load(["config.yaml"])
    for cell in study.cells:
        assert train_cell(study, cell, study.result_path(cell)) == 0
        assert state_of(study, cell).state == "done"
        record = json.loads(study.result_path(cell).read_text())
        assert (record["model_id"], record["task"]) == (cell.model, cell.task)
        assert record["model_config"]["circuit" if "tanh" in cell.model else "chunk"] in ("tanh", 16)
        model = qablate.load_model(study.result_path(cell))
        assert model.sizes.settings.hand_over == ("nohand" not in cell.model)
    checked = study.result_path(study.cell("4d-nohand", "forrelation-n3", 16, 2024))
    monkeypatch.setattr(checks, "GRADIENT_DRAWS", 2)
    assert main(["check", str(checked)]) == 0
    found = json.loads(checks_path(checked).read_text())
    assert found["degree_marks"].keys() == set("1234")
    weights = checked.with_name(checked.name.replace("results.json", "model.pt"))
    weights.rename("elsewhere.pt")      # asked again without weights: what needs none is the same
    assert main(["check", str(checked)]) == 0
    without = json.loads(checks_path(checked).read_text())
    assert without.keys() == {"result_sha256", "cell_means", "degree_marks", "gradients"}
    assert without == {key: found[key] for key in without}
    Path("elsewhere.pt").rename(weights)
    other = ["check", str(checked), "--set", '{"models": ["4d"]}']
    assert main(other) == 2
    assert capsys.readouterr().err == f"qablate: {checked}: model 4d-nohand: study 'published' has 4d\n"
    answers = checks_path(checked).parent.rename("elsewhere")
    checks_path(checked).parent.touch()
    assert main(["check", str(checked)]) == 1
    assert "checks: cannot write: File exists\n" in capsys.readouterr().err
    checks_path(checked).parent.unlink()
    answers.rename(checks_path(checked).parent)
    assert main(["check", str(checked)]) == 0
    assert main(["status", "--no-queue"]) == 0
    assert "6 of 6 cells done" in capsys.readouterr().out
    assert main(["report", "--partial"]) == 0
    report = Path("results/progress_report.md").read_text()
    section = report[report.index("## Controls"):report.index("## Needs attention")]
    assert "4d-tanh does as well as 4d." in section
    for row in ("| Selective Copy | 4d-tanh | 4d |", "| Forrelation-n3 | 4d-nohand | 4d |",
                "| 4d-nohand | forrelation-n3 |"):
        assert row in section
