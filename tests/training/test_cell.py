"""The files of a cell."""

import json
import os

import numpy as np
import pytest
import torch
from tiny import with_dataset

from qablate.records import METRICS
from qablate.results import read_record, state_of
from qablate.training.cell import train_cell
from qablate.training.record import companion

PUBLISHED_KEYS = ("model_id model_name model_info task task_type seq_len seed n_params hyperparameters data_info "
                  "history best_val_metric").split()
LATER_KEYS = ["baseline", "training_time", "epochs_trained", "timestamp"]


@pytest.mark.parametrize("task", ["adding_problem", "forrelation", "selective_copy"])
def test_a_cell_leaves_a_whole_result(study, task):
    cell = with_dataset(study, "2d", task)
    output = study.result_path(cell)
    assert train_cell(study, cell, output) == 0
    record = read_record(output)
    assert state_of(study, cell).state == "done"
    assert record["status"] == "ok"
    assert (record["provenance"]["matmul_precision"], record["provenance"]["cudnn_tf32"]) == ("highest", False)
    assert (record["provenance"]["peak_gpu_memory_mb"] is None) == (record["provenance"]["device_type"] == "cpu")
    assert not torch.backends.cuda.mem_efficient_sdp_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
    published = [*PUBLISHED_KEYS, *METRICS[record["task_type"]], *LATER_KEYS]
    assert list(json.loads(output.read_text()))[: len(published)] == published    # first, and in their order
    with np.load(companion(output, "predictions.npz")) as arrays:
        assert len(arrays["test_indices"]) == record["split"]["n_test"] == 12
        assert arrays["outputs"].shape == (12, record["data_info"]["output_dim"])
    assert (record["legacy"] is not None) == (task == "forrelation")
    assert sorted(path.suffix for path in output.parent.iterdir() if path.is_file()) == [".json", ".npz", ".pt"]
