"""Everything to measure when a GPU is at hand, one command of at most ten minutes each, in this order:

    python benchmarks/gpu_day.py checks      self-checks of the Triton kernels, the precision and the seeds in force
    python benchmarks/gpu_day.py parity      outputs and gradients of all models against float64 on the CPU
    python benchmarks/gpu_day.py graph       training steps by the CUDA graph against those without one
    python benchmarks/gpu_day.py steps       step times of all models: plain torch, Triton, the CUDA graph
    python benchmarks/gpu_day.py resume      whether a training that was stopped ends with the bits of one that was not
    python benchmarks/gpu_day.py cells       one cell of each group on the GPU and on the CPU, their scores side by side
    python benchmarks/bench.py costs         epochs of all cells into workflow/costs.csv, under the GPU's name

Compiling the kernels of all models takes minutes; Triton keeps them on disk (TRITON_CACHE_DIR).
`--device cpu` runs the same code on a CPU, which is how it is tested; `--lengths` and `--models` make it shorter.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from bench import device_name
from steps import as_trained, batch_of, trained_model
from timing import time_side_by_side

from qablate.errors import QablateError
from qablate.quantum import resolve_backend
from qablate.results import read_record
from qablate.ssm import selective_scan
from qablate.study import Cell, Study
from qablate.tasks.store import make_dataset
from qablate.training import loop
from qablate.training.cell import prepare_torch, train_cell
from qablate.training.cuda_graph import CudaGraphStep
from qablate.training.interrupts import Stopped
from qablate.training.loop import MAX_NONFINITE_RUN, Items

ONE_OF_EACH_GROUP = ("1b", "2d", "3b", "4d")
ROUNDS = 5
GRAPH_STEPS = 20


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--models", nargs="+", help="default: one of each group for resume and cells, else all")
    parser.add_argument("--lengths", nargs="+", type=int, default=[100], help="plain torch is timed at the first only")
    options = parser.parse_args()
    try:
        study = Study.load(["config.yaml"], {"run": {"device": options.device}})
        device = prepare_torch(study)
        print(f"{device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
        PARTS[options.part](study, device, options)
    except QablateError as error:
        print(f"gpu_day: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def check(study: Study, device: torch.device, options: Any) -> None:
    """Say which backends serve, and that nothing is rounded to fewer bits."""
    tiny = [torch.rand(shape, device=device) for shape in ((1, 3, 2), (1, 3, 2), (2, 2), (1, 3, 2), (1, 3, 2))]
    for name, attempt in (("circuits", lambda backend: resolve_backend(backend, device)),
                          ("scan", lambda backend: selective_scan(*tiny, backend=backend))):
        for backend in ("torch", "triton", "auto"):
            try:
                attempt(backend)
                print(f"{name}, {backend}: serves")
            except QablateError as error:
                print(f"{name}, {backend}: {error}")
    print(f"matmul precision {torch.get_float32_matmul_precision()}, cuDNN TF32 {torch.backends.cudnn.allow_tf32}")
    a = torch.rand(512, 512, device=device)
    x, weight = torch.rand(8, 14, 64, device=device), torch.rand(128, 14, 3, device=device)
    exact = a.double() @ a.double()
    convolved = torch.nn.functional.conv1d(x, weight) - torch.nn.functional.conv1d(x.double(), weight.double())
    print(f"largest relative error of a product {float(((a @ a) / exact - 1).abs().max()):.1e} and absolute error of a "
          f"convolution {float(convolved.abs().max()):.1e}; with TF32 both would be over 1e-4")


def check_parity(study: Study, device: torch.device, options: Any) -> None:
    """The largest deviation from float64 in plain torch, relative to the largest output and gradient."""
    print("largest deviation of outputs, of gradients: here, and of float32 in plain torch on the CPU")
    for model in options.models or study.config["models"]:
        spec = study.dataset("adding_problem", options.lengths[0], study.config["seeds"][0])
        batch = batch_of(study, spec, torch.device("cpu"))
        exact, single, here = (trained_model(study, spec, model, torch.device(place), kernels, kernels).model
                               for place, kernels in (("cpu", "torch"), ("cpu", "torch"), (device, "auto")))
        expected = _values(exact.double(), batch[0].double())
        pairs = [_deviation(_values(model_, batch[0].to(place)), expected)
                 for model_, place in ((here, device), (single, "cpu"))]
        print(model, *(f"{number:.1e}" for pair in pairs for number in pair), flush=True)


def _values(model: torch.nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Outputs and gradients without dropout, complex ones as pairs of numbers."""
    model.eval()
    outputs = model(inputs)
    outputs.sin().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [outputs.detach(), *(torch.view_as_real(g) if g.is_complex() else g for g in gradients)]


def _deviation(got: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Of the outputs and of all gradients together: the largest difference over the largest number."""
    ours, exact = ([one[0], torch.cat([part.flatten() for part in one[1:]])] for one in (got, expected))
    return [float((a.cpu().double() - b).abs().max() / b.abs().max()) for a, b in zip(ours, exact, strict=True)]


def check_graph(study: Study, device: torch.device, options: Any) -> None:
    """Steps with and without the graph from equal weights and generators: losses, weights; then another graph."""
    print("difference to steps without a graph: of the summed loss, relative; the largest of a weight; two graphs")
    for model in options.models or study.config["models"]:
        spec = study.dataset("adding_problem", options.lengths[0], study.config["seeds"][0])
        inputs, targets = batch_of(study, spec, device)
        index = torch.arange(len(inputs), device=device)
        plain = trained_model(study, spec, model, device, "auto", "auto")
        torch.manual_seed(7)
        loss = sum(plain(inputs, targets).loss for _ in range(GRAPH_STEPS))
        graphs = []
        for _ in range(2):
            held = trained_model(study, spec, model, device, "auto", "auto").model
            items = Items(inputs, targets)
            graph = CudaGraphStep(held, spec.info.kind, items, study.config["training"], MAX_NONFINITE_RUN)
            graph.begin_epoch(plain.learning_rate(1))
            torch.manual_seed(7)
            for _ in range(GRAPH_STEPS):
                graph(index, 1.0)
            graphs.append((graph.read(), held))
        (sums, one), (_, two) = graphs
        pairs = [zip(one.parameters(), other.parameters(), strict=True) for other in (plain.model, two)]
        difference = max(float((a - b).detach().abs().max()) for a, b in pairs[0])
        again = "equal" if all(torch.equal(a, b) for a, b in pairs[1]) else "DIFFERENT"
        print(f"{model}: {abs(sums.loss / loss - 1):.1e} {difference:.1e} {again}", flush=True)


def time_steps(study: Study, device: torch.device, options: Any) -> None:
    """Wall milliseconds of a step: plain torch, the compiled kernels, these in one CUDA graph."""
    compiled = "triton" if device.type == "cuda" else "numba"
    print(f"model, length; wall ms per step: torch, {compiled}, {compiled} and CUDA graph")
    for model in options.models or study.config["models"]:
        for length in options.lengths:
            calls = _steps(study, device, model, length, compiled)
            if length != options.lengths[0]:
                del calls["torch"]
            timings = time_side_by_side(calls, ROUNDS)
            print(model, length, *(f"{timings[name].wall:8.2f}" if name in timings else f"{'':8}"
                                   for name in ("torch", compiled, "graph")), flush=True)


def _steps(study: Study, device: torch.device, model: str, length: int, compiled: str) -> dict[str, Any]:
    spec = study.dataset("adding_problem", length, study.config["seeds"][0])
    batch = batch_of(study, spec, device)
    names = ("torch", compiled, compiled)
    plain, fast, held = (trained_model(study, spec, model, device, name, name) for name in names)
    return {"torch": lambda: plain(*batch), compiled: lambda: fast(*batch),
            "graph": as_trained(study, spec, held, batch)}


def check_resume(study: Study, device: torch.device, options: Any) -> None:
    """Train each model twice on little data, once stopped after three batches: equal bits or not."""
    for model in options.models or ("1a", "3a", *ONE_OF_EACH_GROUP):
        for graph in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                whole, stopped = (_trained(folder, name, model, options, graph, stop)
                                  for name, stop in (("a", None), ("b", 3)))
            equal = all(torch.equal(whole[key], stopped[key]) for key in whole)
            print(f"{model}, {'with' if graph else 'without'} a graph: {'equal' if equal else 'DIFFERENT'} bits",
                  flush=True)


def _trained(
    folder: str, name: str, model: str, options: Any, graph: bool, stop_after: int | None
) -> dict[str, torch.Tensor]:
    """Weights of a cell of two epochs, stopped once after so many batches."""
    run = {"device": options.device, "cuda_graph": graph}
    study = _small_study(Path(folder) / name, model, options.lengths[0], run, n_samples=400, max_epochs=2)
    cell = study.cell(model, "adding_problem", options.lengths[0], 2024)
    output = study.result_path(cell)
    make_dataset(study.dataset(cell.task, cell.length, cell.seed), study.dataset_path(cell))
    if stop_after is not None:
        ordinary = loop.Training._save_or_stop

        def stop(training: Any, interrupts: Any, save: Any) -> None:
            ordinary(training, interrupts, save)
            if training.progress.batch == stop_after:
                save()
                raise Stopped("stopped on purpose")

        loop.Training._save_or_stop = stop
        try:
            _train_silently(study, cell, output)
        finally:
            loop.Training._save_or_stop = ordinary
    if _train_silently(study, cell, output):
        raise QablateError(f"{cell.name}: stopped before its end")
    return torch.load(output.with_name(output.name.replace("results.json", "model.pt")))


def _train_silently(study: Study, cell: Cell, output: Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return train_cell(study, cell, output)


def compare_cells(study: Study, device: torch.device, options: Any) -> None:
    """The test score of one cell of each group, here and on the CPU; five epochs of 2,000 items."""
    for model in options.models or ONE_OF_EACH_GROUP:
        scores = []
        with tempfile.TemporaryDirectory() as folder:
            for name in (options.device, "cpu"):
                run = {"device": name, "cuda_graph": name == "cuda"}
                small = _small_study(Path(folder) / f"{len(scores)}", model, options.lengths[0], run, 2000, 5)
                cell = small.cell(model, "adding_problem", options.lengths[0], 2024)
                make_dataset(small.dataset(cell.task, cell.length, cell.seed), small.dataset_path(cell))
                if _train_silently(small, cell, small.result_path(cell)):
                    raise QablateError(f"{cell.name}: stopped before its end")
                scores.append(read_record(small.result_path(cell))["test_mse"])
        print(f"{model}: test MSE {scores[0]:.6f} on {options.device}, {scores[1]:.6f} on cpu", flush=True)


def _small_study(
    folder: Path, model: str, length: int, run: dict[str, Any], n_samples: int, max_epochs: int
) -> Study:
    """A study that holds one model on the adding problem at one length."""
    return Study.load(["config.yaml"], {
        "results": str(folder), "models": [model], "seeds": [2024], "data": {"n_samples": n_samples},
        "tasks": {"adding_problem": {"lengths": [length]}}, "run": run,
        "training": {"recipe": "gpu_day", "max_epochs": max_epochs},
    })


PARTS = {"checks": check, "parity": check_parity, "graph": check_graph, "steps": time_steps, "resume": check_resume,
         "cells": compare_cells}

if __name__ == "__main__":
    sys.exit(main())
