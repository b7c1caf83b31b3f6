"""What the rules are told of a study, with a stand-in for Snakemake's workflow."""

import functools
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import TINY
from snakemake.resources import Resource
from working_folder import ROOT

from qablate.config import merge, read_yaml
from qablate.study import Study
from qablate.workflow import StudyRun, settle_words

WILDCARDS = SimpleNamespace(model="1b", task="adding_problem", length="16", seed="1")


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Begin a run of the tiny study in a folder of its own, as Snakemake's settings and command line have it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    settings = {**read_yaml(ROOT / "config.yaml"), **TINY}
    Path("config.yaml").write_text(yaml.safe_dump(settings))

    def make(overrides: dict[str, Any] | None = None, overlays: tuple[str, ...] = (), **workflow: Any) -> StudyRun:
        known = {"is_main_process": True, "basedir": str(tmp_path), "global_resources": {},
                 "overwrite_configfiles": [tmp_path / name for name in overlays],
                 "resource_settings": SimpleNamespace(cores=None, nodes=None, overwrite_resources={})}
        config = functools.reduce(merge, [settings, *map(read_yaml, map(Path, overlays)), overrides or {}])
        return StudyRun(SimpleNamespace(**{**known, **workflow}), config)

    return make


def test_jobs_are_told_the_same_study_and_nothing_of_their_requests(begin) -> None:
    Path("more.yaml").write_text("seeds: [1]\n")
    run = begin({"run": {"threads": 2}, "jobs": {"margin": 2.0}}, overlays=("more.yaml",))
    words = shlex.split(run.settings.format())    # as Snakemake formats it
    assert words == ["--config", "config.yaml", "more.yaml", "--set", '{"run":{"threads":2}}']
    told = Study.load(words[1:3], yaml.safe_load(words[4]))
    assert told.config == {**run.study.config, "jobs": told.config["jobs"]}
    assert begin().settings == "--config config.yaml"
    launcher = "srun -A ${SBATCH_ACCOUNT}"
    assert begin({"jobs": {"launcher": launcher}}).launcher.format() == launcher


def test_functions_are_called_per_cell_only_for_what_a_profile_asks(begin) -> None:
    plain = begin()
    assert (plain.resources, plain.max_seconds) == ({}, "")
    asked = begin({"jobs": {"max_minutes": 60}}, global_resources={"gpu_slots": Resource("gpu_slots", 3)})
    assert asked.resources.keys() == {"runtime", "gpu_slots"}
    assert asked.resources["runtime"](WILDCARDS, attempt=1) == 60
    assert asked.max_seconds(WILDCARDS, SimpleNamespace(runtime=60)) == "--max-seconds 3420"


def test_a_job_on_its_node_asks_for_nothing_more(begin) -> None:
    run = begin(is_main_process=False)
    run.prepare()
    assert run.dataset(WILDCARDS) == [] and run.reason(WILDCARDS) == ""
    assert not Path(".snakemake").exists()
    assert os.environ["PATH"] == f"{os.path.dirname(sys.executable)}:/usr/bin"
    assert len(begin().dataset(WILDCARDS)) == 1 and begin().reason(WILDCARDS).endswith("(missing)")


def test_plain_words_of_a_profile_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "m1_g")
    raw = {"slurm_account": "$SBATCH_ACCOUNT", "constraint": "'a' if attempt > 1 else 'b'", "gpu": "1 + 1"}
    resources = {key: Resource(key, text, raw=text) for key, text in raw.items()}
    before = dict(resources)
    settle_words(resources)
    assert (resources["slurm_account"].value, resources["slurm_account"].raw) == ("m1_g", "$SBATCH_ACCOUNT")
    assert all(resources[key] is before[key] for key in ("constraint", "gpu"))
