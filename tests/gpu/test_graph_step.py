"""The step that a CUDA graph captures, run on a CPU without capture."""

import torch
from torch import nn

from qablate.training.cuda_graph import CudaGraphStep
from qablate.training.loop import Items

SETTINGS = {"learning_rate": 0.01, "weight_decay": 0.1, "clip_norm": 1.0, "max_epochs": 50}


class Small(nn.Module):
    """Real and complex parameters, as the models have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.phases = nn.Linear(6, 4), nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (self.inner(inputs.flatten(1)) * self.phases).abs()


def graph_step() -> CudaGraphStep:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    items = Items(torch.randn(20, 2, 3, generator=generator), torch.randn(20, 4, generator=generator))
    return CudaGraphStep(Small(), "regression", items, SETTINGS, 3)


def weights(step) -> torch.Tensor:
    return torch.cat([torch.view_as_real(p).flatten() if p.is_complex() else p.flatten()
                      for p in step.model.parameters()]).detach().clone()


def test_a_gradient_that_is_not_finite_skips_its_update_and_many_halt():
    graph = graph_step()
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
    graph = graph_step()
    graph.begin_epoch(0.01, skipped_run=2)
    graph(torch.arange(8), 1.0)
    assert graph.read().skipped_run == 0
