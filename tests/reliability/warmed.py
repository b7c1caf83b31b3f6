"""Imported once by the fork server: a process in which torch is loaded and every kernel of the tests is compiled.

A cell then starts in milliseconds instead of seconds, so that many kills can be afforded. Forking is sound because the
server has a single thread: torch is held to one, and the import ends with an error if that is not so.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import torch
from tiny import tiny_study, with_dataset

import qablate.cli  # noqa: F401  (loaded here, so that no child has to)
from qablate.training.cell import train_cell

CELLS = (("1b", "adding_problem"), ("4d", "forrelation"), ("2a", "selective_copy"))

if os.environ.get("QABLATE_TEST_WARM"):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for model, task in CELLS:
            study = tiny_study(Path(folder))
            study.config["training"] |= {"max_epochs": 1}
            cell = with_dataset(study, model, task)
            train_cell(study, cell, study.result_path(cell))
    if Path("/proc/self/task").exists() and len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the fork server has threads, forking it is not sound")
