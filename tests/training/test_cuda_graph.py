"""The loop over a captured step, run uncaptured: the same training as the plain loop, the same resume."""

import copy
import math

import pytest
import torch
from tiny import with_dataset

from qablate.catalog import task_info
from qablate.models import ModelSettings, build_model
from qablate.tasks import split_of
from qablate.tasks.store import load_dataset
from qablate.training.cuda_graph import CudaGraphTraining
from qablate.training.interrupts import Interrupts, Stopped
from qablate.training.loop import Streams, Training, build_seeded, cut


def training_of(study, cell, kind):
    spec = study.dataset(cell.task, cell.length, cell.seed)
    data = cut(load_dataset(study.dataset_path(cell), spec), split_of(spec), torch.device("cpu"))
    streams = Streams(cell.seed, "published/demo/x")
    settings = ModelSettings(**study.config["model"], backend="torch", scan_backend="torch")
    model = build_seeded(
        lambda: build_model(cell.model, spec.n_channels, cell.length, spec.n_outputs, settings),
        streams,
        data.train.inputs.device,
    )
    return kind(model, task_info(cell.task).kind, data, streams, study.config["training"])


class StopAfter(Interrupts):
    """Asks to stop when it is asked for the n-th time."""

    def __init__(self, asked: int) -> None:
        super().__init__(1e9, None)
        self.asked = asked

    def stop_reason(self) -> str | None:
        self.asked -= 1
        return "test" if self.asked == 0 else None


@pytest.mark.parametrize(("model", "task"), [("2a", "adding_problem"), ("1b", "forrelation")])
def test_the_curves_are_those_of_the_plain_loop(study, model, task):
    cell = with_dataset(study, model, task)
    plain, graphed = (training_of(study, cell, kind) for kind in (Training, CudaGraphTraining))
    for training in (plain, graphed):
        training.run(Interrupts(1e9, None), lambda: None)
    for key in ("train_loss", "train_metric", "val_loss", "val_metric"):
        assert graphed.progress.history[key] == pytest.approx(plain.progress.history[key], rel=1e-3), key
    assert graphed.progress.best_epoch == plain.progress.best_epoch


def test_stopped_within_an_epoch_it_goes_on_to_the_same_bits(study):
    cell = with_dataset(study, "2a")
    whole = training_of(study, cell, CudaGraphTraining)
    whole.run(Interrupts(1e9, None), lambda: None)

    first, kept = training_of(study, cell, CudaGraphTraining), {}
    with pytest.raises(Stopped):
        first.run(StopAfter(16), lambda: kept.update(copy.deepcopy(first.state())))
    assert kept["progress"]["batch"] > 0
    second = training_of(study, cell, CudaGraphTraining)
    second.restore(kept)
    second.run(Interrupts(1e9, None), lambda: None)
    assert second.progress.history == whole.progress.history
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_a_loss_that_is_not_finite_ends_the_epoch_as_diverged(study):
    cell = with_dataset(study, "3a")
    training = training_of(study, cell, CudaGraphTraining)
    training.data.train.targets[40] = math.nan
    training.run(Interrupts(1e9, None), lambda: None)
    assert (training.progress.stop_reason, training.progress.diverged_epoch) == ("non_finite", 1)
    assert training.progress.history["val_loss"] == [None]
