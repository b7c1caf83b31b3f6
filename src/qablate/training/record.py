"""From a finished training to its files: predictions, weights and the result JSON.

Shapes: n test items, o outputs.
"""

import contextlib
import hashlib
import io
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qablate.catalog import model_info, size_of
from qablate.files import read_regular, supersede, write_atomic
from qablate.models import parameter_counts
from qablate.provenance import peak_memory_mb, provenance_of_process, utc_now
from qablate.records import METRICS, SELECTED, Record
from qablate.study import Cell, DatasetSpec, Study
from qablate.tasks import Dataset
from qablate.tasks.metrics import classification_metrics, extra_metrics, measured_baseline, regression_metrics
from qablate.training.checkpoint import Progress
from qablate.training.loop import Training, outputs_of


@dataclass(frozen=True)
class Run:
    """A cell that has been trained, with all that its record tells."""

    study: Study
    cell: Cell
    dataset: Dataset
    training: Training
    device: torch.device
    started_utc: str
    wall_seconds: float

    @property
    def spec(self) -> DatasetSpec:
        """Identity of the dataset."""
        return self.dataset.spec


def write_predictions(path: Path, run: Run, outputs: np.ndarray, only_describe: bool = False) -> dict[str, Any]:
    """Store indices (n,), outputs (n, o) and targets of the test items; return name, hash and count for the record."""
    indices = run.training.data.split.test
    buffer = io.BytesIO()
    np.savez(buffer, test_indices=indices, outputs=outputs, targets=run.dataset.targets[indices])
    if not only_describe:
        _replace(path, buffer.getvalue(), run.study.superseded)
    return {"file": path.name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(), "n": len(indices)}


def write_weights(path: Path, run: Run) -> None:
    """Store the weights of the tested epoch as a plain state dict."""
    buffer = io.BytesIO()
    torch.save(run.training.model.state_dict(), buffer)
    _replace(path, buffer.getvalue(), run.study.superseded)


def _replace(path: Path, content: bytes, superseded: Path) -> None:
    """Put what belongs to a result at `path`; what belonged to the one before is kept first."""
    with contextlib.suppress(OSError):    # what cannot be read, or is no file, is moved as well
        if read_regular(path, len(content)) == content:
            return
    supersede(path, superseded)
    write_atomic(path, content)


def test_outputs(run: Run, check_interrupts: Callable[[], None]) -> np.ndarray:
    """Return the outputs (n, o) of the test items with the best epoch's weights: the one reading of these items."""
    return outputs_of(run.training.model, run.training.data.test.inputs, check_interrupts).cpu().numpy()


def build_record(run: Run, outputs: np.ndarray, predictions: dict[str, Any]) -> Record:
    """Return the result of a cell in the published keys and order, then the added ones."""
    study, cell, spec, split = run.study, run.cell, run.spec, run.training.data.split
    settings, model = study.training_settings(cell.model), study.model_settings(cell.model, cell.length)
    progress, targets = run.training.progress, run.dataset.targets
    compute = regression_metrics if run.training.kind == "regression" else classification_metrics
    metrics = compute(outputs, targets[split.test])
    seed = run.training.streams.seed("bootstrap")
    extra = extra_metrics(spec.task, outputs, targets[split.test], targets[split.train], seed)
    if "auc_note" in metrics:
        extra["auc_note"] = metrics["auc_note"]
    return {
        **cell.identity,
        "n_params": parameter_counts(run.training.model)[0],
        "hyperparameters": {
            **{key: model[key] for key in ("n_qubits", "n_layers", "d_model", "d_state")},
            "n_epochs": settings["max_epochs"],
            **{key: settings[key] for key in ("batch_size", "learning_rate", "weight_decay")},
            "num_markers": size_of(spec.info.num_markers, spec.parameters),
        },
        "data_info": {"n_channels": spec.n_channels, "n_timesteps": cell.length, "output_dim": spec.n_outputs},
        "history": progress.history,
        "best_val_metric": progress.best_metric,
        **{key: metrics[key] for key in METRICS[run.training.kind]},
        "baseline": spec.info.nominal_baseline,
        "training_time": progress.elapsed,
        "epochs_trained": len(progress.history["epochs"]),
        "timestamp": datetime.now().strftime("%Y%m%d_%H%M%S"),
        "schema_version": 2,
        "status": _status(progress),
        "family": "published",
        "recipe": settings["recipe"],
        **study.variants_of(cell),
        **_data(run),
        **_settings(run),
        "metrics_extra": extra,
        "legacy": legacy_score(progress.history["val_metric"], progress.legacy_correct, len(split.val),
                               len(split.test), settings["patience"], settings["max_epochs"]),
        "predictions": predictions,
        "provenance": _provenance(run),
    }


def _status(progress: Progress) -> str:
    if progress.stop_reason == "non_finite":
        return "diverged"
    return "ok" if progress.best_epoch is not None else "no_improvement"


def _data(run: Run) -> dict[str, Any]:
    spec, split = run.spec, run.training.data.split
    return {
        "dataset": {
            "generator": spec.generator,
            "variant": spec.variant,
            "n_samples": spec.n_samples,
            "n_items": spec.n_items,
            "data_seed": spec.seed,
            "dataset_sha256": run.dataset.sha256,
            "statistics_baseline": measured_baseline(run.dataset, split),
        },
        "split": {
            "split_id": spec.split_id,
            "split_seed": spec.seed,
            "split_sha256": split.sha256,
            "n_train": len(split.train),
            "n_val": len(split.val),
            "n_test": len(split.test),
        },
        "seeds": {"data": run.cell.seed, "split": run.cell.seed, "train": run.training.streams.train_seed},
    }


def _settings(run: Run) -> dict[str, Any]:
    """How the cell was trained and its model built."""
    study, cell, progress = run.study, run.cell, run.training.progress
    settings, model = study.training_settings(cell.model), study.model_settings(cell.model, cell.length)
    return {
        "training": {
            "dropout": model["dropout"],
            "patience": settings["patience"],
            "clip_norm": settings["clip_norm"],
            "optimizer": "AdamW",
            "scheduler": "cosine per epoch",
            "monitor": "validation MSE" if run.training.kind == "regression" else "validation accuracy",
            "best_epoch": progress.best_epoch,
            "stop_reason": progress.stop_reason,
            "diverged_epoch": progress.diverged_epoch,
            "nonfinite_grad_steps": progress.nonfinite_grad_steps,
            "n_resumes": progress.n_resumes,
            "seconds_per_epoch_median": statistics.median(progress.seconds),
            "lr_final": progress.history["lr"][-1],
        },
        "model_config": {
            **model,
            "n_channels": run.spec.n_channels,
            "length": cell.length,
            "n_outputs": run.spec.n_outputs,
            "chunk": study.chunk(cell.model, cell.length),
            "backend": study.config["quantum"]["backend"],
            "n_params_trainable": parameter_counts(run.training.model)[1],
            "model_code_version": model_info(cell.model).code_version,
        },
    }


def legacy_score(
    validation_accuracy: list[float | None], test_correct: list[int], n_validation: int, n_test: int, patience: int,
    max_epochs: int,
) -> dict[str, Any] | None:
    """The published Forrelation score, biased on purpose: the best epoch chosen on the items it is reported on.

    None without any correct prediction, as in tasks that are not chosen so. Applies the published rule to the accuracy
    on both halves of the hold-out: the best starts at 0, only strict improvement counts, `patience` epochs without one
    end it. `legacy_censored` is set when our own run stopped before
    that rule would have. Stopping, selection and learning rate never read `test_correct`, `Progress.legacy_correct`.
    """
    best, best_epoch, epoch = 0.0, 0, 0
    stopped = False
    for epoch, (share, correct) in enumerate(zip(validation_accuracy, test_correct, strict=False), start=1):
        if share is None:
            break
        accuracy = (round(share * n_validation) + correct) / (n_validation + n_test)
        if accuracy > best:
            best, best_epoch = accuracy, epoch
        if epoch - best_epoch >= patience:
            stopped = True
            break
    if best_epoch == 0:
        return None
    return {
        "name": SELECTED,
        SELECTED: best,
        "epoch": best_epoch,
        "legacy_censored": not stopped and epoch < max_epochs,
        "biased": True,
    }


def _provenance(run: Run) -> dict[str, Any]:
    cuda = run.device.type == "cuda"
    return {
        "source": run.study.system,
        **provenance_of_process(),
        "device_name": torch.cuda.get_device_name(run.device) if cuda else "cpu",
        "device_type": run.device.type,
        "config_sha256": run.study.settings_sha256(run.cell),
        "cell_key": run.study.cell_key(run.cell),
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "kernels": run.training.progress.kernels,
        "started_utc": run.started_utc,
        "finished_utc": utc_now(),
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated(run.device) / 1e6, 1) if cuda else None,
        "wall_seconds": run.wall_seconds,
    }
