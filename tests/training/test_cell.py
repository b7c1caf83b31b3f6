"""From the command line to the files of a cell."""

import json
import os
import platform
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from tiny import tiny_study, with_dataset

from qablate.records import METRICS
from qablate.results import read_record, state_of
from qablate.training import cell as cell_module
from qablate.training.cell import checkpoint_path, train_cell
from qablate.training.record import companion


@pytest.mark.parametrize("task", ["adding_problem", "forrelation", "selective_copy"])
def test_a_cell_leaves_a_whole_result(study, task):
    cell = with_dataset(study, "2d", task)
    output = study.result_path(cell)
    assert train_cell(study, cell, output) == 0
    record = read_record(output)
    assert state_of(study, cell).state == "done"
    assert record["status"] == "ok"
    assert (record["provenance"]["matmul_precision"], record["provenance"]["cudnn_tf32"]) == ("highest", False)
    assert not torch.backends.cuda.mem_efficient_sdp_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert all(key in record for key in METRICS[record["task_type"]])
    with np.load(companion(output, "predictions.npz")) as arrays:
        assert len(arrays["test_indices"]) == record["split"]["n_test"] == 12
        assert arrays["outputs"].shape == (12, record["data_info"]["output_dim"])
    assert (record["legacy"] is not None) == (task == "forrelation")
    assert sorted(path.suffix for path in output.parent.iterdir() if path.is_file()) == [".json", ".npz", ".pt"]


def test_published_keys_come_first_and_in_order(study):
    cell = with_dataset(study)
    train_cell(study, cell, study.result_path(cell))
    keys = list(json.loads(study.result_path(cell).read_text()))
    published = (
        "model_id model_name model_info task task_type seq_len seed n_params hyperparameters data_info history "
        "best_val_metric test_mse test_mae test_r2 baseline training_time epochs_trained timestamp"
    ).split()
    assert keys[: len(published)] == published


def command(tmp_path, study, *more: str, **options) -> subprocess.Popen:
    config = {**study.config, "results": "results"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = "train --model 1b --task adding_problem --length 16 --seed 2024".split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "qablate.cli", *arguments, *more], cwd=tmp_path, text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def test_sigusr1_saves_and_goes_on_and_sigterm_saves_and_exits_85(tmp_path):
    study = tiny_study(tmp_path / "results")
    study.config["training"] |= {"max_epochs": 400, "patience": 400}
    cell = with_dataset(study)
    process = command(tmp_path, study)
    for line in process.stdout:
        if line.startswith("Epoch   2/"):
            process.send_signal(signal.SIGUSR1)
        if '"checkpoint"' in line:
            process.send_signal(signal.SIGTERM)
            break
    log = process.communicate(timeout=60)[0]
    assert process.returncode == 85
    assert '"reason": "SIGTERM"' in log
    assert checkpoint_path(study.result_path(cell)).exists()


def test_memory_that_tensors_free_is_used_again():
    """Without it, the kernel hands out and clears every page of a large tensor anew."""
    script = """
import resource, torch
from qablate.training.cell import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.empty(20_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
mapped = faults()
keep_freed_memory()
print(mapped, min(faults() for _ in range(4)))    # small things that lie between may cost one of them a fresh block
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    mapped, kept = map(int, run.stdout.split())
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert kept < mapped / 100


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(cell_module.ctypes, "CDLL", lambda name: object())
    cell_module.keep_freed_memory()


def test_a_hang_up_stops_with_a_checkpoint_and_nohup_goes_on(tmp_path):
    study = tiny_study(tmp_path / "results")
    study.config["training"] |= {"max_epochs": 100, "patience": 100}
    cell = with_dataset(study)
    for ignored, code in ((False, 85), (True, 0)):
        handler = signal.SIG_IGN if ignored else signal.SIG_DFL    # the suite itself may run under nohup
        process = command(tmp_path, study, preexec_fn=partial(signal.signal, signal.SIGHUP, handler))
        for line in process.stdout:
            if line.startswith("Epoch "):
                process.send_signal(signal.SIGHUP)
                break
        log = process.communicate(timeout=120)[0]
        assert process.returncode == code, log
        assert ('"reason": "SIGHUP"' in log) == (not ignored)
        assert study.result_path(cell).exists() == ignored
