"""Result files and settings damaged at random: refused in one line, or sound; never an exception of another kind.

What is mutated are real files: results of trainings done here, in both schemas, and the settings that come with the
project. `make test` tries 1,000 inputs of each kind, `make test-full` 10,000.
"""

import json
import math
from pathlib import Path

import pytest
import yaml
from damage import IN_BYTES, in_values, mutated, with_changes
from factories import CONFIG, published_study, record_of, schema1_of
from harness import workplace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qablate.catalog import MODELS, TASKS
from qablate.config import ConfigError, load_config
from qablate.records import HISTORY, METRICS
from qablate.results.judging import judge_content
from qablate.results.reading import parse
from qablate.results.states import FINISHED, Found
from qablate.study import Cell, Study
from qablate.training.cell import train_cell

N_INPUTS = [1000, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)])]
KINDS = (*METRICS["regression"], *METRICS["classification"])


def given_times(n: int, **strategies):
    """Run a test on `n` inputs."""
    def decorate(test):
        options = settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        return options(given(**strategies)(test))

    return decorate


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> list[tuple[bytes, Study, Cell]]:
    """Results of three trainings, and one of each task as the published code would have written it."""
    found = []
    for task in ("forrelation", "adding_problem", "selective_copy"):
        place = workplace(tmp_path_factory.mktemp(task), "1b", task, training={"max_epochs": 2, "batch_size": 48})
        place.study.config["run"] |= {"checkpoint_interval_s": 1e9}
        assert train_cell(place.study, place.cell, place.output) == 0
        record = json.loads(place.output.read_bytes())
        del record["content_sha256"]     # or nearly all damage would be refused by it alone
        content = json.dumps(record, indent=2).encode()
        old = published_study(place.study.results)
        cell = next(cell for cell in old.cells if cell.task == task)
        published = schema1_of(record_of(old, cell))
        if task == "forrelation":
            published["test_acc"] = published["best_val_metric"]
        found += [(content, place.study, place.cell), (json.dumps(published, indent=2).encode(), old, cell)]
    return found


def assert_sound(record: dict) -> None:
    """What a finished cell must be, said without the code that decides it."""
    assert record["model_id"] in MODELS
    kind = TASKS[record["task"]].kind
    assert record["task_type"] == kind
    assert record["data_info"]["n_timesteps"] == record["seq_len"] > 0
    assert record["status"] in ("ok", "diverged", "no_improvement")
    curves, n = record["history"], record["epochs_trained"]
    assert all(len(curves[key]) == n for key in HISTORY)
    assert all(record.get(key) is None for key in KINDS if key not in METRICS[kind])
    if record["status"] == "ok":
        assert all(math.isfinite(v) for key in ("train_loss", "val_loss", "val_metric") for v in curves[key])
        assert all(math.isfinite(record[key]) for key in METRICS[kind] if key != "test_auc")
    if record["schema_version"] == 2:     # in published files these are warnings
        assert curves["epochs"] == list(range(1, n + 1))
        if record["status"] == "ok":
            best = (min if kind == "regression" else max)(curves["val_metric"])
            assert abs(record["best_val_metric"] - best) <= 1e-9


def judge(content: bytes, study: Study, cell: Cell) -> bool:
    """Judge a result file; return whether it was taken for a whole one."""
    verdict = judge_content(study, Found("local", Path(cell.result_name)), parse(content))
    for line in (verdict.detail, *verdict.warnings):
        assert "\n" not in line
        line.encode("utf-8")
    if verdict.status not in FINISHED:
        assert verdict.status == "partial" or verdict.reason
        return False
    assert_sound(verdict.record)
    return True


@pytest.mark.parametrize("n_inputs", N_INPUTS)
@pytest.mark.parametrize("place", ["bytes", "values"])
def test_damaged_result_files(real, place, n_inputs):
    taken = []

    def damaged(one):
        content, study, cell = one
        if place == "bytes":
            changed = IN_BYTES.map(lambda changes: mutated(content, changes))
        else:
            record = json.loads(content)
            changed = in_values(record).map(lambda changes: json.dumps(with_changes(record, changes)).encode())
        return st.tuples(changed, st.just(study), st.just(cell))

    @given_times(n_inputs, choice=st.sampled_from(real).flatmap(damaged))
    def damage(choice):
        taken.append(judge(*choice))

    assert all(judge(*one) for one in real)
    damage()
    print(f"{len(taken)} inputs, {sum(taken)} taken for results (digits changed, or nothing that counts)")
    assert len(taken) >= n_inputs


DEMO = Path(__file__).parents[2] / "workflow/studies/demo.yaml"


def judge_settings(files: list[Path], laid_over: dict) -> bool:
    """Read a study's settings; return whether they were taken, and were all that a study needs."""
    try:
        study = Study(load_config(files, laid_over))
    except ConfigError as error:
        assert "\n" not in str(error)
        str(error).encode("utf-8")
        return False
    for cell in study.cells[:3]:
        study.settings_sha256(cell)
        assert type(cell.length) is type(cell.seed) is int
        assert study.result_path(cell).name == cell.result_name
        assert all(size > 0 for size in study.dataset(cell.task, cell.length, cell.seed).split_sizes)
    training = study.config["training"]
    assert type(training["max_epochs"]) is int
    assert 0 < training["learning_rate"] < math.inf
    return True


@pytest.mark.parametrize("n_inputs", N_INPUTS)
def test_settings_damaged_in_their_bytes(tmp_path, n_inputs):
    taken, base, over = [], tmp_path / "base.yaml", tmp_path / "over.yaml"
    published, demo = (compact(path) for path in (CONFIG, DEMO))

    @given_times(n_inputs, changes=IN_BYTES, which=st.booleans())
    def damage(changes, which):
        base.write_bytes(published if which else mutated(published, changes))
        over.write_bytes(mutated(demo, changes) if which else b"{}")
        taken.append(judge_settings([base, over], {}))

    damage()
    print(f"{len(taken)} inputs, {sum(taken)} taken for settings")
    assert len(taken) >= n_inputs


def compact(path: Path) -> bytes:
    """A settings file without its comments, so that most damage hits something."""
    lines = [line.split(" #")[0].rstrip() for line in path.read_text().splitlines() if not line.startswith("#")]
    return "\n".join(line for line in lines if line).encode()


@pytest.mark.parametrize("n_inputs", N_INPUTS)
def test_settings_damaged_in_their_values(n_inputs):
    taken = []
    published = yaml.safe_load(CONFIG.read_text())

    @given_times(n_inputs, changes=in_values(published))
    def damage(changes):
        taken.append(judge_settings([], with_changes(published, changes)))

    damage()
    print(f"{len(taken)} inputs, {sum(taken)} taken for settings")
    assert len(taken) >= n_inputs


@pytest.mark.parametrize("text", [
    "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "a: &a {b: *a}", "seeds: [!!int '']", "name: !!timestamp x", "- a", "",
    "name: !!bool maybe", "seeds: 0x" + "f" * 9000, "seeds: " + "9" * 9000, "a: [", "\x00", "&a [*a]", "[" * 5000,
    "name: !!python/object/apply:os.system [x]", "? [a, b]\n: c",
])
def test_hostile_yaml_is_one_line(tmp_path, text):
    path = tmp_path / "over.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config([CONFIG, path])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change", [{"seeds": [2024.0]}, {"model": {"d_model": 128.0}}, {"training": {"patience": True}}]
)
def test_a_whole_number_is_written_as_one(change):
    """100.0 would stand in file names and hashes as another number than 100."""
    with pytest.raises(ConfigError, match="is not of type integer"):
        load_config([CONFIG], change)
