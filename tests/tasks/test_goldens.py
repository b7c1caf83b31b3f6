"""All 33 published datasets: hashes, fingerprints of the published logs, splits, spot values."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from qablate.errors import QablateError
from qablate.study import DatasetSpec, published_sha256
from qablate.tasks import generate, split_of
from qablate.tasks.metrics import dataset_statistics

DATA = Path(__file__).parents[1] / "data"


def rows_of(name):
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return {(row["task"], int(row["seq_len"]), int(row["seed"])): row for row in csv.DictReader(file)}


GOLDENS, FINGERPRINTS = rows_of("dataset_goldens.csv"), rows_of("dataset_fingerprints.csv")


@pytest.mark.parametrize("key", GOLDENS, ids=lambda key: "{}-L{}-{}".format(*key))
def test_published_dataset(key):
    golden, spec = GOLDENS[key], DatasetSpec(*key)
    dataset = generate(spec)
    assert spec.identity_json == golden["identity_params"]
    assert hashlib.sha256(dataset.sequences.tobytes()).hexdigest() == golden["sequences_sha256"]
    assert hashlib.sha256(dataset.targets.tobytes()).hexdigest() == golden["targets_sha256"]
    assert dataset.sha256 == golden["dataset_sha256"] == published_sha256()[spec.identity_json]
    assert split_of(spec).sha256 == golden["split_perm_sha256"]
    statistics = dataset_statistics(dataset)
    compared = [column for column in statistics if golden.get(column)]
    assert len(compared) == (5 if spec.task == "forrelation" else 3)
    for column in compared:
        assert statistics[column] == pytest.approx(float(golden[column]), abs=1e-9)
    if key in FINGERPRINTS:
        check_fingerprint(dataset, statistics, FINGERPRINTS[key])


def check_fingerprint(dataset, statistics, row):
    targets = dataset.targets.astype(np.float64)
    constant = 1.0 if dataset.spec.task == "adding_problem" else 0.5
    baseline = np.mean((targets - constant) ** 2)
    assert statistics["target_mean"] == pytest.approx(float(row["target_mean"]), abs=1e-6)
    assert targets.std(ddof=1) == pytest.approx(float(row["target_std"]), abs=1e-6)
    assert baseline == pytest.approx(float(row["baseline_mse_all"]), abs=1e-6)
    assert f"{baseline:.4f}" == row["baseline_mse_all_in_log_4dp"]
    assert statistics["test_target_var"] == pytest.approx(float(row["target_var_test_split"]), abs=1e-6)
    assert dataset.targets[0, 0] == pytest.approx(float(row["first_target"]), abs=1e-7)


def test_every_published_dataset_has_a_golden_and_a_shipped_hash():
    assert len(GOLDENS) == 33
    assert len(FINGERPRINTS) == 24
    assert set(published_sha256()) == {golden["identity_params"] for golden in GOLDENS.values()}


def test_a_changed_stream_is_an_error_that_names_both_hashes(monkeypatch):
    spec = DatasetSpec("adding_problem", 100, 2024)
    monkeypatch.setattr("qablate.tasks.dataset.published_sha256", lambda: {spec.identity_json: "0" * 64})
    with pytest.raises(QablateError, match=f"ce4a09ad264d.*{'0' * 64}"):
        generate(spec)


@pytest.mark.parametrize("n", [1, 2, 19, 20, 101, 1000])
def test_split_sizes(n):
    spec = DatasetSpec("forrelation", 50, 5, n)
    split = split_of(spec)
    n_train, n_val = int(np.floor(0.8 * n + 1e-9)), int(np.floor(0.1 * n + 1e-9))
    assert [len(part) for part in (split.train, split.val, split.test)] == [n_train, n_val, n - n_train - n_val]
    assert spec.split_id == f"perm-{n_train}-{n_val}-{n - n_train - n_val}"
    assert sorted(split.permutation.tolist()) == list(range(n))
