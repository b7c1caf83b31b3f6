"""What a notebook uses: `load_results`, `load_model`, `make_dataset`, an import that costs nothing, the page's code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from factories import small_study, write_results
from tiny import tiny_study, with_dataset

import qablate
from qablate.analysis.collect import collect
from qablate.errors import QablateError
from qablate.study import published_sha256
from qablate.training.cell import train_cell

ROOT = Path(__file__).parents[2]


def test_load_results_is_the_table_of_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = qablate.load_results("results/systems/cpu")
    assert len(runs) == len(list(Path("results/systems/cpu").glob("*.json")))
    assert {"model", "task", "length", "seed", "system", "test_mse", "valid", "training.patience"} <= set(runs)
    study = small_study(tmp_path / "results", models=["1a"])
    write_results(study)
    shutil.copy("config.yaml", tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)
    mine = ("name", "models", "seeds", "data", "tasks", "training", "legacy_metric")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({key: study.config[key] for key in mine}))
    found = qablate.load_results("results", ["config.yaml", "mine.yaml"])
    pd.testing.assert_frame_equal(found, collect(study).table)


def test_errors_of_load_results_name_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QablateError, match="nowhere: no such folder"):
        qablate.load_results("nowhere")
    (tmp_path / "deep/results").mkdir(parents=True)
    with pytest.raises(QablateError, match="no settings: neither config.yaml nor .*config.yaml"):
        qablate.load_results("deep/results")


def test_load_model_computes_what_was_tested(tmp_path):
    study = tiny_study(tmp_path)
    cell = with_dataset(study)
    result = study.result_path(cell)
    assert train_cell(study, cell, result) == 0
    weights = result.with_name(result.name.replace("results.json", "model.pt"))
    inputs = torch.randn(3, 2, cell.length)
    with torch.no_grad():
        found = qablate.load_model(result)(inputs)
        assert found.shape == (3, 1) and torch.equal(found, qablate.load_model(weights)(inputs))
    for content in (b"no weights", b"", b"several lines\nof text\n", b"just a line of text"):
        weights.write_bytes(content)
        with pytest.raises(QablateError, match=r"model\.pt: not weights of this result: ."):
            qablate.load_model(weights)
    weights.unlink()
    with pytest.raises(QablateError, match=r"model\.pt: no weights next to the result; move the result away"):
        qablate.load_model(result)
    with pytest.raises(QablateError, match="neither a result"):
        qablate.load_model(tmp_path / "other.txt")


def test_make_dataset_is_the_published_one_and_is_written_nowhere(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").symlink_to(ROOT / "config.yaml")
    monkeypatch.chdir(tmp_path)
    dataset = qablate.make_dataset("forrelation", 100, 2024)
    assert dataset.sha256 == published_sha256()[dataset.spec.identity_json]
    assert dataset.sequences.shape == (5000, 100, 14)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    with pytest.raises(QablateError, match="unknown task 'forelation'"):
        qablate.make_dataset("forelation", 100, 2024)
    own = qablate.make_dataset("forrelation", np.int64(100), np.int64(2024))
    assert own.sha256 == dataset.sha256
    with pytest.raises(QablateError, match="task forrelation-n3: study 'published' has forrelation, adding_problem"):
        qablate.make_dataset("forrelation-n3", 100, 1)
    with pytest.raises(QablateError, match="task adding_problem: study 'ladder' has "):
        qablate.make_dataset("adding_problem", 50, 1, ["config.yaml", ROOT / "workflow/studies/ladder.yaml"])


def test_the_page_on_notebooks_runs_as_printed(tmp_path):
    page = (ROOT / "docs/notebook.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)[1]
    train = re.search(r"^qablate train .*", page, re.M)[0]
    for name in ("config.yaml", "results/systems"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    quick = json.dumps({"data": {"n_samples": 60}, "training": {"recipe": "quick", "max_epochs": 1}})
    for command in ([*train.split()[1:], "--set", quick], None):
        words = ["-m", "qablate", *command] if command else ["-c", code]
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=os.environ | {"MPLBACKEND": "Agg"},
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"test MSE 0\.\d+\n", done.stdout)
    assert (tmp_path / "selective_copy.png").read_bytes().startswith(b"\x89PNG")


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "qablate", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"qablate {qablate.__version__}"


def test_a_folder_of_another_study_is_said_and_an_overlay_alone_is_explained(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.warns(UserWarning, match="no result counts in study 'published' .*not_in_study"):
        assert qablate.load_results("results/systems/controls").empty
    with pytest.raises(QablateError, match="missing key; name the file that an overlay lies over before it"):
        qablate.load_results("results/systems/controls", "workflow/studies/chunks.yaml")
