"""The step that a CUDA graph captures, run on a CPU without capture."""

import copy

import pytest
import torch
from torch import nn

from qablate.training.cuda_graph import CudaGraphStep
from qablate.training.loop import Items, TrainingStep

SETTINGS = {"learning_rate": 0.01, "weight_decay": 0.1, "clip_norm": 1.0, "max_epochs": 50}


class Small(nn.Module):
    """Real and complex parameters, as the models have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.phases = nn.Linear(6, 4), nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (self.inner(inputs.flatten(1)) * self.phases).abs()


def items_of(kind: str) -> Items:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(20, 4, generator=generator) if kind == "regression" else torch.arange(20) % 4
    return Items(torch.randn(20, 2, 3, generator=generator), targets)


def both_steps(kind: str):
    torch.manual_seed(0)
    first, second = Small(), Small()
    second.load_state_dict(first.state_dict())
    items = items_of(kind)
    return TrainingStep(first, kind, SETTINGS), CudaGraphStep(second, kind, items, SETTINGS, 3), items


def weights(step) -> torch.Tensor:
    return torch.cat([torch.view_as_real(p).flatten() if p.is_complex() else p.flatten()
                      for p in step.model.parameters()]).detach().clone()


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_it_learns_what_the_plain_step_learns(kind):
    plain, graph, items = both_steps(kind)
    graph.begin_epoch(0.01)
    loss, correct = 0.0, 0
    for chosen in torch.arange(20).split(8):  # the last batch is short
        outcome = plain(items.inputs[chosen], items.targets[chosen])
        loss, correct = loss + outcome.loss * len(chosen) / 20, correct + outcome.correct
        graph(chosen, len(chosen) / 20)
    sums = graph.read()
    assert sums.loss == pytest.approx(loss, rel=1e-6) and (sums.correct, sums.batches) == (correct, 3)
    assert not sums.halted and sums.skipped == 0
    assert torch.allclose(weights(plain), weights(graph), atol=1e-6)
    assert graph.read().batches == 0


def test_a_gradient_that_is_not_finite_skips_its_update_and_many_halt():
    _, graph, items = both_steps("regression")
    graph.begin_epoch(0.01)
    graph(torch.arange(8), 1.0)
    before, moments = weights(graph), [s["exp_avg"].clone() for o in graph.optimizers for s in o.state.values()]
    hook = graph.model.inner.weight.register_hook(lambda grad: grad * torch.nan)
    graph(torch.arange(8), 1.0)
    assert torch.equal(before, weights(graph))
    after = [s["exp_avg"] for o in graph.optimizers for s in o.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert {float(s["step"]) for o in graph.optimizers for s in o.state.values()} == {1.0}
    sums = graph.read()
    assert (sums.batches, sums.skipped, sums.skipped_run, sums.halted) == (2, 1, 1, False)
    graph(torch.arange(8), 1.0)
    graph(torch.arange(8), 1.0)
    hook.remove()
    graph(torch.arange(8), 1.0)  # after the halt: neither counted nor learned from
    sums = graph.read()
    assert (sums.batches, sums.skipped, sums.skipped_run, sums.halted) == (2, 2, 3, True)
    assert torch.equal(before, weights(graph))


def test_a_taken_update_ends_a_run_of_skipped_ones():
    _, graph, _ = both_steps("regression")
    graph.begin_epoch(0.01, skipped_run=2)
    graph(torch.arange(8), 1.0)
    assert graph.read().skipped_run == 0


def test_a_loss_that_is_not_finite_halts_at_once():
    _, graph, items = both_steps("regression")
    items.inputs[3] = torch.inf
    graph.begin_epoch(0.01)
    before = weights(graph)
    graph(torch.arange(8), 1.0)
    sums = graph.read()
    assert sums.halted and sums.batches == 0 and sums.loss == 0.0
    assert torch.equal(before, weights(graph))


def test_it_goes_on_from_a_saved_state_to_the_bit():
    _, graph, items = both_steps("regression")
    graph.begin_epoch(0.01)
    graph(torch.arange(8), 1.0)
    torch.manual_seed(5)
    again = CudaGraphStep(Small(), "regression", items, SETTINGS, 3)
    again.model.load_state_dict(graph.model.state_dict())
    for optimizer, saved in zip(again.optimizers, graph.optimizers, strict=True):
        optimizer.load_state_dict(copy.deepcopy(saved.state_dict()))
    again.recapture()
    for step in (graph, again):
        step.begin_epoch(0.02)
        step(torch.arange(8, 20), 1.0)
    assert torch.equal(weights(graph), weights(again))
