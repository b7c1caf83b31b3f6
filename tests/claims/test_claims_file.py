"""The claims file: what the project's own one holds, and every way in which a file may be wrong, in one line."""

import copy
import itertools

import pytest
import yaml
from synthetic import ROOT

from qablate.analysis.old_claims import ClaimsError, load_claims, parse_claims

PATH = ROOT / "workflow" / "claims.yaml"


@pytest.fixture(scope="module")
def content():
    return yaml.safe_load(PATH.read_text())


def changed(content, change):
    other = copy.deepcopy(content)
    change(other)
    return other


def find(content, claim):
    return next(record for record in content["claims"] if record["id"] == claim)


def test_the_projects_claims(claims_file):
    sizes = {name: size for name, size in claims_file.families.items() if size}
    assert sum(sizes.values()) == sum(bool(claims_file.families[claim.family]) for claim in claims_file.claims.values())
    assert all(f"FD{i:02d}" in claims_file.claims for i in range(1, 27))
    for claim in claims_file.claims.values():
        if claim.weights and claim.kind == "mean_difference":
            assert sum(claim.weights.values()) == pytest.approx(0)
            assert sum(weight for weight in claim.weights.values() if weight > 0) == pytest.approx(1)


def test_templates_give_one_claim_an_element(claims_file):
    claim = claims_file.claims["M-selective_copy-4d"]
    assert (claim.weights, claim.family, claim.task) == ({"4d": 1.0, "3b": -1.0}, "M_copy", "selective_copy")
    assert claim.statement == "Model 4d is better than its classical counterpart 3b."
    assert claims_file.claims["L-forrelation-mamba"].candidates == ("3b", "1b", "2d", "4d")
    assert len(claims_file.claims["FD19"].members) == 12


def test_pairs_are_weighted_alike(claims_file):
    weights = claims_file.claims["P9-copy"].weights
    assert weights["1b"] == pytest.approx(1 / 6) and weights["1b+tanh"] == pytest.approx(-1 / 6)
    features = claims_file.claims["G1-copy"]
    plain = claims_file.claims["P1-copy"].weights
    assert all(features.weights[arm] == pytest.approx(plain[arm]) for arm in plain)


def test_controls_name_every_cell(claims_file):
    cells = {name: len(set(control.cells)) for name, control in claims_file.controls.items()}
    assert cells == {"chunk_sweep": 24, "classical_twins": 396, "no_entanglement": 198, "learning_rate": 36}
    twins = {(arm, claim.task) for claim in claims_file.claims.values() for arm in claim.arms if "+" in arm}
    assert twins <= {(arm, task) for control in claims_file.controls.values() for arm, task, *_ in control.cells}
    seeds = {cell[3] for cell in claims_file.controls["learning_rate"].cells}
    assert not seeds & set(claims_file.tasks["selective_copy"].replicates)


def set_of(*keys, to):
    def change(content):
        place = content
        for key in keys[:-1]:
            place = find(content, key) if key in {record["id"] for record in content["claims"]} else place[key]
        place[keys[-1]] = to
    return change


def drop_p1(content):
    content["claims"] = [record for record in content["claims"] if record["id"] != "P1-copy"]


def one_more_in_s_forr(content):
    extra = {**find(content, "S1-forr")}
    content["claims"] += [{**extra, "id": f"S-extra{i}"} for i in range(5)]
    content["families"]["S_forr"]["size"] = 6


WRONG = {
    "control of an unknown task": (set_of("controls", "chunk_sweep", "tasks", to=["copying"]),
                                   "controls.chunk_sweep.tasks.0: 'copying' is not allowed"),
    "control that misspells": (set_of("controls", "chunk_sweep", "lenghts", to=[100]),
                               "controls.chunk_sweep.lenghts: unknown key, did you mean 'lengths'?"),
    "id twice": (lambda c: c["claims"].append(dict(find(c, "FD01"))), "claim FD01: the id stands twice"),
    "unknown key": (set_of("P1-copy", "margn", to=0.1), "claim P1-copy: margn: unknown key, did you mean 'margin'?"),
    "unknown key of the file": (set_of("families2", to={}), "families2: unknown key, did you mean 'families'?"),
    "unknown kind": (set_of("P1-copy", "kind", to="mean"), "claim P1-copy: kind: 'mean' is not allowed"),
    "missing statement": (lambda c: find(c, "P1-copy").pop("statement"), "claim P1-copy: statement: missing key"),
    "missing hypothesis": (lambda c: find(c, "P1-copy").pop("hypothesis"), "claim P1-copy: hypothesis: missing key"),
    "unknown member": (set_of("FD09", "members", to=["FD05", "FD99"]), "claim FD09: members: no claim 'FD99'"),
    "member with members": (set_of("FD09", "members", to=["FD05", "FD10"]), "'FD10' has members itself"),
    "unknown set": (set_of("P1-copy", "contrast", to={"plus": "qfeats", "minus": "cfeat"}), "no 'qfeats', known are"),
    "unknown arm": (set_of("P1-copy", "contrast", to={"plus": ["9z"], "minus": ["1a"]}), "'9z' is not a model"),
    "arm on both sides": (set_of("P1-copy", "contrast", to={"plus": ["1a"], "minus": ["1a"]}), "an arm is on both"),
    "weights": (set_of("P1-copy", "contrast", to={"weights": {"1a": 1.0, "1b": -0.5}}), "sum to 0.5, must sum to 0"),
    "contrast of another kind": (set_of("P1-copy", "contrast", to={"arms": ["1a", "1b"]}), "mean_difference needs"),
    "family size": (set_of("families", "P_copy", "size", to=7), "families.P_copy.size: 7, but 6 claims are in it"),
    "claim gone": (drop_p1, "families.P_copy.size: 6, but 5 claims are in it"),
    "unknown family": (set_of("P1-copy", "family", to="P_copi"), "claim P1-copy: family: no 'P_copi'"),
    "task of another family": (set_of("P1-copy", "task", to="adding_problem"), "family P_copy is of task"),
    "too few blocks": (set_of("tasks", "selective_copy", "replicates", to=[1, 2]),
                       "8 blocks cannot support a member of a family of 9, it needs 9 (blocks needed by family size"),
    "too large a slope family": (one_more_in_s_forr, "a slope over 3 lengths and 3 replicates cannot be supported"),
    "negative margin": (set_of("P1-copy", "margin", to=-1), "claim P1-copy: margin: -1 is not allowed"),
    "unknown key of a template": (lambda c: c["templates"][0].update(scop="general"), "did you mean 'scope'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_line(content, name):
    change, expected = WRONG[name]
    with pytest.raises(ClaimsError) as error:
        parse_claims(changed(content, change))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_the_file_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text("schema: 2\n")
    with pytest.raises(ClaimsError, match=r"claims\.yaml: "):
        load_claims(path)


def test_any_missing_top_level_key_is_named(content):
    for key in content:
        if key != "schema":
            with pytest.raises(ClaimsError, match=f"{key}: missing key"):
                parse_claims({other: value for other, value in content.items() if other != key})


def test_families_of_two_or_more_need_more_than_six_blocks(content):
    def six(other):
        for task in other["tasks"].values():
            task.update(replicates=[1, 2], lengths=[100, 200, 500])
    with pytest.raises(ClaimsError, match="6 blocks cannot support"):
        parse_claims(changed(content, six))


def test_pairs_differ_in_the_factor_alone(claims_file):
    from qablate.analysis.contrasts import factors_between

    for claim, factor in itertools.chain((("G1-copy", "features"), ("G2-copy", "mixing"), ("P5-copy", "architecture"))):
        for plus, minus in claims_file.claims[claim].pairs:
            assert factors_between(plus, minus) == {factor}
