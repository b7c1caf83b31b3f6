"""Stopping anywhere and going on gives the same bits as never stopping."""

from functools import partial

import pytest
import torch
from tiny import StopAfter, files_of, stable, tiny_study, with_dataset

from qablate.results import read_record
from qablate.training import cell as cell_module
from qablate.training.cell import FINISHED, STOPPED_FOR_TIME, checkpoint_path, train_cell


@pytest.mark.parametrize("model", ["1b", "2a", "3a", "4d"])
@pytest.mark.parametrize("task", ["adding_problem", "forrelation"])
def test_resumed_equals_undisturbed(tmp_path, monkeypatch, model, task):
    whole = tiny_study(tmp_path / "whole")
    cell = with_dataset(whole, model, task)
    assert train_cell(whole, cell, whole.result_path(cell)) == FINISHED

    parts = tiny_study(tmp_path / "parts")
    with_dataset(parts, model, task)
    output = parts.result_path(cell)
    codes = []
    for batches in (0, 3, 6, 11, 4, 10**6):    # within an epoch, at its end, over several
        monkeypatch.setattr(cell_module, "Interrupts", partial(StopAfter, batches))
        codes.append(train_cell(parts, cell, output))
        assert output.exists() == (codes[-1] == FINISHED)
    assert codes == [STOPPED_FOR_TIME] * 5 + [FINISHED]
    assert read_record(output)["training"]["n_resumes"] == 5
    assert not checkpoint_path(output).exists()
    assert files_of(whole, cell) == files_of(parts, cell)


@pytest.mark.full
def test_two_threads_repeat_themselves_and_differ_from_one_by_rounding_only(tmp_path):
    """torch cuts sums by the number of threads: equal bits need an equal number, which the record holds."""
    records = []
    for run, threads in enumerate((2, 2, 1)):
        study = tiny_study(tmp_path / str(run))
        study.config["run"] |= {"threads": threads}
        cell = with_dataset(study)
        train_cell(study, cell, study.result_path(cell))
        records.append(stable(read_record(study.result_path(cell))))
    torch.set_num_threads(1)
    assert records[0] == records[1]
    assert records[0]["history"]["val_loss"] == pytest.approx(records[2]["history"]["val_loss"], rel=1e-3)
