"""The claims file: what is declared, and one line for every mistake in it."""

from pathlib import Path

import pytest
import yaml
from factories import published_study, small_study

from qablate.analysis.claims import CLAIMS_PATH, load_claims
from qablate.catalog import MODELS
from qablate.errors import QablateError
from qablate.files import SNAKEFILE_FOLDER
from qablate.hours import CostTable

ROOT = Path(__file__).parents[2]
TABLES = {"quantum_classical": 9, "factors": 5, "architecture": 2, "length": 13, "chance": 12}
"""Rows per task in each Holm family."""


def claims_of(tmp_path, content, study=None):
    path = tmp_path / "claims.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_claims(study or published_study(tmp_path), path)


def contrast(**changes):
    return {"id": "x", "table": "factors", "plus": ["1b"], "minus": ["3b"], **changes}


def test_the_families_of_the_shipped_file_have_the_declared_sizes(tmp_path):
    claims = load_claims(published_study(tmp_path), ROOT / CLAIMS_PATH)
    for table, size in TABLES.items():
        family = [one for one in claims.contrasts if one.table == table and not one.alone]
        assert len(family) == size, table
    assert [one.id for one in claims.contrasts if one.alone] == ["quantum", "chance-all"]
    assert len(claims.questions) == 6 and len(claims.statements) == 16
    assert all(any(one.question == key and one.label for one in claims.contrasts) for key in claims.questions)


def test_pairs_of_the_shipped_file_differ_in_what_their_table_says(tmp_path):
    claims = {one.id: one for one in load_claims(published_study(tmp_path), ROOT / CLAIMS_PATH).contrasts}
    for name, changed, kept in (("features", "quantum_features", "quantum_mixing"),
                                ("mixing", "quantum_mixing", "quantum_features")):
        assert claims[name].pairs
        for one, two in ((MODELS[plus], MODELS[minus]) for plus, minus in claims[name].pairs):
            assert getattr(one, changed) and not getattr(two, changed)
            assert (getattr(one, kept), one.architecture) == (getattr(two, kept), two.architecture)
    for name, kinds in (("hydra-mamba", ("hydra", "mamba")), ("mamba-transformer", ("mamba", "transformer"))):
        assert claims[name].pairs
        assert all((MODELS[plus].architecture, MODELS[minus].architecture) == kinds
                   and MODELS[plus].group == MODELS[minus].group for plus, minus in claims[name].pairs)
    assert claims["quantum"].pairs
    assert all(MODELS[minus].group == 3 and MODELS[plus].architecture == MODELS[minus].architecture
               for plus, minus in claims["quantum"].pairs)


def test_a_smaller_study_has_the_contrasts_that_it_can_run(tmp_path):
    study = small_study(tmp_path, models=["1b", "3b"])
    found = load_claims(study, ROOT / CLAIMS_PATH)
    assert [one.id for one in found.contrasts] == ["1b-3b", "slope-1b", "slope-3b", "chance-1b", "chance-3b"]
    assert found.contrasts[0].tasks == ("forrelation", "adding_problem", "selective_copy")
    assert found.contrasts[-1].tasks == ("forrelation",) and found.statements == ()


@pytest.mark.parametrize(("content", "words"), [
    ({"claims": []}, "keys: ['claims'], allowed are questions"),
    ({"contrasts": [contrast(plus=["9z"])]}, "x: plus, minus: ['9z'], allowed are 1a, 1b"),
    ({"contrasts": [contrast(plus="1b")]}, "x: plus: '1b' is not a list of names"),
    ({"contrasts": [contrast(plus=["each", "1b"])]}, "x: plus, minus: ['each'], allowed are 1a, 1b"),
    ({"contrasts": [contrast(plus="each", minus=["each"])]}, "x: plus, minus: ['each'], allowed are 1a, 1b"),
    ({"contrasts": [contrast(minus=["1b"])]}, "x: plus, minus: ['1b'] on both sides"),
    ({"contrasts": [contrast(table="")]}, "x: table: empty"),
    ({"contrasts": [contrast(kind="ratio")]}, "x: kind: ratio, allowed are difference, slope, chance"),
    ({"contrasts": [contrast(tasks=["sorting"])]}, "x: tasks: ['sorting'], allowed are forrelation"),
    ({"contrasts": [contrast(question="why")]}, "x: question: why"),
    ({"contrasts": [contrast(margin="wide")]}, "x: margin: 'wide' is not a number"),
    *[({"contrasts": [contrast(margin=margin)]}, f"x: margin: {margin} is not a number")
      for margin in (True, float("nan"), float("inf"))],
    *[({"contrasts": [contrast(margin=margin)]}, f"x: margin: {margin}, allowed are numbers above 0")
      for margin in (0, -1.0)],
    ({"contrasts": [contrast(plus=[])]}, "x: plus: [], allowed are 1a, 1b"),
    ({"contrasts": [contrast() | {1: 2, "plos": 3}]}, "x: keys: [1, 'plos'], allowed are id"),
    ({"contrasts": [contrast(kind="chance", minus=[], tasks=["forrelation", "selective_copy"])]},
     "x: tasks of kind chance: ['selective_copy'], allowed are forrelation"),
    ({"questions": {1: "foo"}, "contrasts": [contrast(question="why")]}, "questions.1: must map"),
    ({"questions": {"why": 1}}, "questions.why: must map"),
    ({"statements": [{"statement": "s", "tasks": [], "models": ["1b"], "metric": "test_r2", "above": 1}]},
     "statements.0: tasks: [], allowed are forrelation"),
    ({"statements": [{"statement": "s", "tasks": ["adding_problem"], "models": ["1b"], "metric": "test_r2",
                      "above": float("nan")}]}, "statements.0: above: nan is not a number"),
    ({"contrasts": [contrast(), contrast()]}, "id 'x' is there twice"),
    ({"contrasts": [contrast(minus=[])]}, "x: minus"),
    ({"contrasts": [contrast(kind="chance")]}, "x: minus"),
    ({"contrasts": [{"id": "x", "table": "t"}]}, "x: plus: missing"),
    ({"contrasts": ["1b-3b"]}, "contrasts.0: must be a record"),
    ({"questions": ["why"]}, "questions: must map"),
    ({"statements": [{"statement": "s", "tasks": ["forrelation"], "contrasts": ["y"], "verdict": "higher"}]},
     "statements.0: contrasts: ['y']"),
    ({"contrasts": [contrast(tasks=["forrelation"])],
      "statements": [{"statement": "s", "tasks": ["selective_copy"], "contrasts": ["x"], "verdict": "higher"}]},
     "statements.0: contrasts: ['x'], allowed are "),
    ({"contrasts": [contrast()],
      "statements": [{"statement": "s", "tasks": ["forrelation"], "contrasts": ["x"], "verdict": "higher",
                      "models": ["1b"], "metric": "test_acc", "above": 0.5}]}, "needs contrasts and verdict, or"),
    ({"statements": [{"statement": "s", "tasks": ["selective_copy", "forrelation"], "models": ["1b"],
                      "metric": "test_r2", "above": 1}]},
     "statements.0: metric of forrelation: test_r2, allowed are test_acc"),
    ({"contrasts": [contrast()],
      "statements": [{"statement": "s", "tasks": ["forrelation"], "contrasts": ["x"], "verdict": "wins"}]},
     "statements.0: verdict: wins, allowed are higher"),
    ({"statements": [{"statement": "s", "tasks": ["adding_problem"], "models": ["1b"], "metric": "test_r2"}]},
     "statements.0: needs contrasts and verdict, or models, metric and one of above and below"),
    ({"statements": [{"statement": "s", "tasks": ["adding_problem"], "models": ["1b"], "metric": "r2", "above": 1}]},
     "statements.0: metric of adding_problem: r2, allowed are test_"),
    ("contrasts: [", "not valid YAML"),
    ("- a", "must hold a mapping"),
])
def test_a_mistake_is_one_line_that_names_file_record_and_what_is_allowed(tmp_path, content, words):
    with pytest.raises(QablateError) as error:
        claims_of(tmp_path, content)
    assert words in str(error.value) and "claims.yaml" in str(error.value) and "\n" not in str(error.value)


def test_each_is_one_row_per_other_model_under_a_label_of_its_own(tmp_path):
    found = claims_of(tmp_path, {"contrasts": [contrast(plus="each", label="against 3b")]}).contrasts
    models = sorted(published_study(tmp_path).config["models"])
    assert [one.plus for one in found] == [(model,) for model in models if model != "3b"]
    assert found[0].label == "1a against 3b"


def test_in_another_working_folder_claims_and_costs_are_those_beside_the_snakefile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not load_claims(published_study(tmp_path)).contrasts and not CostTable.at_hand().rows
    monkeypatch.setenv(SNAKEFILE_FOLDER, str(ROOT))
    assert load_claims(published_study(tmp_path)).contrasts and CostTable.at_hand().rows
