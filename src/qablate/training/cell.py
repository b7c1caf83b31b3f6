"""Train one cell from its dataset to its result file; resumes by itself, stops in time, never half-writes."""

import contextlib
import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from qablate import logs
from qablate.errors import MachineError, QablateError, one_line
from qablate.files import check_writable, keep_copy, put_in_place, remove_leftovers
from qablate.jobs import STOPPED_FOR_TIME
from qablate.models import ModelSettings, build_model, kernels_of, parameter_counts
from qablate.provenance import command_line, provenance_of_process, utc_now
from qablate.records import companion, write_record
from qablate.results import state_of
from qablate.study import Cell, DatasetSpec, Study
from qablate.tasks import split_of
from qablate.tasks.store import load_dataset, make_dataset
from qablate.training.checkpoint import (
    CheckpointUnfit,
    Identity,
    delete_checkpoints,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from qablate.training.cuda_graph import CudaGraphTraining
from qablate.training.interrupts import Interrupts, Stopped
from qablate.training.loop import CellData, Streams, Training, cut
from qablate.training.record import Run, build_record, test_outputs, write_predictions, write_weights

FINISHED = 0
OUT_OF_MEMORY = "out of memory"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4    # of glibc's malloc.h


def train_cell(study: Study, cell: Cell, output: Path, max_seconds: float | None = None) -> int:
    """Train `cell` and write its result to `output`; return 0, or 85 when stopped for time with a checkpoint.

    A valid result is left alone; anything else at `output` goes to `study.superseded`, never lost. A missing dataset is
    made. Whatever fails is the log's last event, with the reason; no result is written then. Bad input raises
    QablateError, a full disk, a read-only folder and too little memory MachineError; lines that cannot be printed fail
    nothing. The order of writes (weights, predictions, result, then the checkpoint goes) means that a kill between any
    two leaves a state from which the next run ends right. Two processes on one cell compute the same and need no lock:
    the first result stays, the other goes to `study.superseded`.
    """
    try:
        return _train(study, cell, output, max_seconds)
    except Stopped as stop:
        logs.say_event("stop", reason=str(stop))
        return STOPPED_FOR_TIME
    except QablateError as error:
        logs.say_event("fail", reason=str(error))
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            logs.say_event("fail", reason=OUT_OF_MEMORY)
            raise MachineError(f"{cell.name}: {OUT_OF_MEMORY}; what is in its checkpoint stays") from error
        logs.say_event("fail", reason=one_line(f"{type(error).__name__}: {error}"))
        raise


def _train(study: Study, cell: Cell, output: Path, max_seconds: float | None) -> int:
    started, started_utc = time.monotonic(), utc_now()
    checkpoint = checkpoint_path(output)
    if _is_done(study, cell, output):
        delete_checkpoints(checkpoint)  # a kill after the result was written left them
        remove_leftovers(output)
        return FINISHED
    check_writable(output.parent)
    check_writable(checkpoint.parent)
    device = prepare_torch(study)
    spec, path = study.dataset(cell.task, cell.length, cell.seed), study.dataset_path(cell)
    if not (path.exists() and path.with_suffix(".json").exists()):
        logs.say(f"{path}: missing, made now")
        make_dataset(spec, path)  # several cells that make it at once write equal bytes
    dataset = load_dataset(path, spec)
    data = cut(dataset, split_of(spec), device)
    identity = {"cell_key": study.cell_key(cell), "settings_sha256": study.settings_sha256(cell),
                "dataset_sha256": dataset.sha256}
    interval, budget = (study.config["run"][key] for key in ("checkpoint_interval_s", "max_seconds"))

    def attempt(interrupts: Interrupts) -> None:
        training = _training(study, cell, spec, data, device)
        logs.say_header(cell, spec, parameter_counts(training.model)[0], command_line())
        made_by = _made_by(study, cell, device)
        _resume(training, checkpoint, identity, device, made_by)

        def save() -> None:
            save_checkpoint(checkpoint, identity, {**training.state(), "made_by": made_by})  # told, never refused for
            logs.say_event("checkpoint", epoch=training.progress.epoch, batch=training.progress.batch)

        training.run(interrupts, save)
        run = Run(study, cell, dataset, training, device, started_utc, time.monotonic() - started)
        _finish(run, output, checkpoint, interrupts)

    with Interrupts(interval, max_seconds or budget, started) as interrupts:
        while not _attempted(partial(attempt, interrupts), checkpoint):
            pass
    return FINISHED


def _attempted(attempt: Callable[[], None], checkpoint: Path) -> bool:
    """Whether an attempt came to its end; False if it failed on a checkpoint that another one can replace."""
    newest = None
    with contextlib.suppress(FileNotFoundError):    # another process on the cell may be replacing it
        newest = checkpoint.stat()
    try:
        attempt()
    except Exception as error:
        known = isinstance(error, Stopped | QablateError) and not isinstance(error, CheckpointUnfit)
        if known or _is_out_of_memory(error) or not set_aside(checkpoint, newest):
            raise
        reason = str(error) if isinstance(error, QablateError) else f"{type(error).__name__}: {error}"
        logs.say_event("unfit", reason=one_line(reason))
        return False
    return True


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own for the GPU only; on the CPU its allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def checkpoint_path(output: Path) -> Path:
    """Return the checkpoint of a result: in `checkpoints/` next to it, so that counting results never counts one."""
    stem = output.name.removeprefix("synthetic_").removesuffix("_results.json")
    return output.parent / "checkpoints" / f"checkpoint_{stem}.pt"


def _is_done(study: Study, cell: Cell, output: Path) -> bool:
    """Whether a valid result is there; anything else under its name is kept now and moved away for the new result."""
    found = state_of(study, cell, output)
    if found.state.finished:
        logs.say(f"{output}: already there, nothing to do")
    elif os.path.lexists(output):
        kept = f"kept as {keep_copy(output, study.superseded)}" if output.is_file() else f"goes to {study.superseded}"
        logs.say(one_line(f"{output}: {found.state.label} ({found.reason}); {kept}"))
    return found.state.finished


def prepare_torch(study: Study) -> torch.device:
    """Set allocator, threads and determinism for this process; return the device."""
    keep_freed_memory()
    torch.set_num_threads(study.config["run"]["threads"])
    # the same switch as use_deterministic_algorithms(True, warn_only=True), which imports the compiler for a second
    torch.set_deterministic_debug_mode("warn")
    # Every output is written before it is read; filling each new tensor with NaN first costs 5 to 20 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")    # before CUDA starts; cuBLAS is deterministic with it
    torch.backends.cudnn.allow_tf32 = False    # on by default: convolutions would keep ten bits of each number
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.enable_mem_efficient_sdp(False)    # its backward pass adds in no fixed order
    name, share = study.config["run"]["device"], study.config["run"]["gpu_memory_fraction"]
    if name == "cuda" and not torch.cuda.is_available():
        raise QablateError(f"run.device: cuda asked for, but torch {torch.__version__} sees no GPU here (auto or cpu "
                           "would run)")
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and share is not None:
        torch.cuda.set_per_process_memory_fraction(share)
    return device


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors freed; no number changes.

    glibc maps every tensor over 32 MB anew, and the kernel clears its pages one by one: nearly half of a step of 3a at
    L = 1000. Does nothing where the C library has no `mallopt` (musl, macOS).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 256 << 20)):
            mallopt(option, value)


def _training(study: Study, cell: Cell, spec: DatasetSpec, data: CellData, device: torch.device) -> Training:
    streams = Streams(cell.seed, study.cell_key(cell).rpartition("/")[0])
    torch.manual_seed(streams.seed("init"))    # weights do not depend on what ran before
    settings = _settings(study, cell)
    model = build_model(cell.model, spec.n_channels, cell.length, spec.n_outputs, settings).to(device)
    legacy = study.config["legacy_metric"] and spec.info.selected_on_test
    kind = CudaGraphTraining if device.type == "cuda" and study.config["run"]["cuda_graph"] else Training
    return kind(model, spec.info.kind, data, streams, study.training_settings(cell.model), legacy)


def _settings(study: Study, cell: Cell) -> ModelSettings:
    return ModelSettings(**study.model_settings(cell.model, cell.length), backend=study.config["quantum"]["backend"])


def _made_by(study: Study, cell: Cell, device: torch.device) -> dict[str, Any]:
    """Which code computes here, and by what; numbers of another processor, torch or kernel differ by rounding."""
    process = provenance_of_process()
    told = {key: process[key] for key in ("git_commit", "package_version", "torch", "cpu")}
    return {**told, "device": device.type, "threads": torch.get_num_threads(),
            "kernels": kernels_of(cell.model, _settings(study, cell), device)}


def _resume(
    training: Training, path: Path, identity: Identity, device: torch.device, made_by: dict[str, Any]
) -> None:
    state, position = load_checkpoint(path, identity, device), training.progress
    if state is None:
        logs.say_event("start", cell=identity["cell_key"], host=platform.node(), pid=os.getpid())
    else:
        try:
            training.restore(state)
            logs.say_other_numbers(state["made_by"], made_by)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CheckpointUnfit(
                f"{path}: does not fit this model ({reason}); move the file away to train from the start"
            ) from error
        position = training.progress
        logs.say_event("resume", epoch=position.epoch, batch=position.batch, host=platform.node(), pid=os.getpid())
    position.add_kernels(made_by["kernels"])


def _finish(run: Run, output: Path, checkpoint: Path, interrupts: Interrupts) -> None:
    """Test the best weights once and write everything, the result last; a valid result that came meanwhile stays."""
    run.training.restore_best()
    outputs = test_outputs(run, interrupts.stop_if_due)
    study, places = run.study, []

    def is_valid() -> bool:
        return state_of(study, run.cell, output).state.finished

    def place(path: Path, content: bytes) -> None:
        places.append(put_in_place(path, content, study.superseded, is_valid))

    came_meanwhile = is_valid()
    if not came_meanwhile:
        write_weights(companion(output, "model.pt"), run)
    predictions = write_predictions(companion(output, "predictions.npz"), run, outputs, only_describe=came_meanwhile)
    record = write_record(output, build_record(run, outputs, predictions), place)
    delete_checkpoints(checkpoint)
    logs.say_results(record, str(places[0]))
    if places[0] != output:
        logs.say(f"{output}: a valid result came while this one was trained and stays; this one is in {places[0]}")
    logs.say_event("result", status=record["status"], file=output.name)
