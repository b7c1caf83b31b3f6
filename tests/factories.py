"""Made-up results for tests: a valid record of any cell of any study, written where the study looks for it.

The numbers are drawn, not measured; they only have the right shapes and sizes, and agree with each other and with what
is known of the dataset. Every record passes `check_record`.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qablate import __version__
from qablate.catalog import model_info, task_info
from qablate.config import check_config, read_yaml
from qablate.goldens import DatasetFacts, published_parameters
from qablate.records import METRICS, best_of_curve, check_record, plain_types, write_record
from qablate.study import Cell, Study, known_dataset

CONFIG = Path(__file__).parents[1] / "config.yaml"
SMALL = {
    "name": "small",
    "seeds": [2024, 2025],
    "data": {"n_samples": 200},
    "tasks": {
        "forrelation": {"lengths": [16, 32], "n_bits": 6},
        "adding_problem": {"lengths": [16, 32], "placement": "extremes"},
        "selective_copy": {"lengths": [16, 32], "n_markers": 8},
    },
}
SMALL_TRAINING = {"recipe": "demo", "max_epochs": 6, "patience": 3}


def published_study(results: Path, **changes: Any) -> Study:
    """The study of config.yaml, all 396 cells, with another results folder."""
    study = Study(check_config({**read_yaml(CONFIG), **changes}))
    study.results = results
    return study


def small_study(results: Path, **changes: Any) -> Study:
    """Lengths 16 and 32, two seeds, few items and epochs: 144 cells, or fewer by `changes` (top-level keys)."""
    base = read_yaml(CONFIG)
    training = {**base["training"], **SMALL_TRAINING}
    return published_study(results, **{**SMALL, "training": training, "legacy_metric": False, **changes})


def record_of(study: Study, cell: Cell, status: str = "ok", **overrides: Any) -> dict[str, Any]:
    """A valid schema-2 record of `cell`; overrides replace top-level keys, mappings are laid over key by key.

    Of MSE, MAE and R2, those that are not given follow the one that is.
    """
    rng = np.random.default_rng(stable_int(study.cell_key(cell)))
    spec, facts = study.dataset(cell.task, cell.length, cell.seed), _facts(study, cell)
    settings, training = study.model_settings(cell.model, cell.length), study.training_settings(cell.model)
    history, sizes = _history(study, cell, rng, status), spec.split_sizes
    epochs = len(history["epochs"])
    record = {
        **cell.identity,
        "n_params": n_params(cell),
        "hyperparameters": {
            **{key: settings[key] for key in ("n_qubits", "n_layers", "d_model", "d_state")},
            "n_epochs": training["max_epochs"],
            **{key: training[key] for key in ("batch_size", "learning_rate", "weight_decay")},
            "num_markers": 8,
        },
        "data_info": {"n_channels": spec.n_channels, "n_timesteps": cell.length, "output_dim": spec.n_outputs},
        "history": history,
        "best_val_metric": best_of_curve({**cell.identity, "history": history}) if status == "ok" else None,
        **_test_metrics(study, cell, rng, status),
        "baseline": spec.info.nominal_baseline,
        "training_time": 12.5 * epochs,
        "epochs_trained": epochs,
        "timestamp": "20260801_120000",
        "schema_version": 2,
        "status": status,
        "family": "published",
        "recipe": training["recipe"],
        **study.variants_of(cell),
        "dataset": {"generator": spec.generator, "variant": spec.variant, "n_samples": spec.n_samples,
                    "n_items": spec.n_items, "data_seed": cell.seed, "dataset_sha256": facts.sha256,
                    "statistics_baseline": spec.info.nominal_baseline},
        "split": {"split_id": spec.split_id, "split_seed": cell.seed,
                  "split_sha256": facts.split_sha256 or _hex(f"split {cell.seed}"),
                  **dict(zip(("n_train", "n_val", "n_test"), sizes, strict=True))},
        "seeds": dict.fromkeys(("data", "split", "train"), cell.seed),
        "training": _training(study, cell, history, status),
        "model_config": {
            **settings,
            "chunk": study.chunk(cell.model, cell.length),
            "backend": "torch",
            "n_params_trainable": n_params(cell) - (100 if cell.model in ("1a", "3a") else 0),
            "model_code_version": model_info(cell.model).code_version,
        },
        "metrics_extra": _extra(cell, rng, status),
        "legacy": None,
        "predictions": None,
        "provenance": _provenance(study, cell),
    }
    for key, value in overrides.items():
        record[key] = {**record[key], **value} if isinstance(value, Mapping) and record.get(key) else value
    record = plain_types({**record, **following(record, overrides, variance_of(study, cell))})
    check_record(record, study.result_path(cell))
    return record


def following(record: Mapping[str, Any], given: Mapping[str, Any], variance: float) -> dict[str, Any]:
    """The test metrics that follow from the one that is given, where the others are not."""
    mse, r2 = record.get("test_mse"), record.get("test_r2")
    metrics = METRICS["regression"] if record["task_type"] == "regression" and record["status"] != "diverged" else ()
    if not set(metrics) & set(given) or mse is None or r2 is None or not math.isfinite(mse + r2):
        return {}
    mse = mse if "test_mse" in given else (1 - r2) * variance
    found = {"test_mse": mse, "test_mae": 0.8 * math.sqrt(abs(mse)), "test_r2": 1 - mse / variance}
    return {key: value for key, value in found.items() if key not in given}


def variance_of(study: Study, cell: Cell) -> float:
    """Variance of the test targets: of the dataset where it is known, else nominal."""
    facts = _facts(study, cell)
    return facts.test_target_var or (1 / 6 if task_info(cell.task).id == "adding_problem" else 1 / 12)


def _facts(study: Study, cell: Cell) -> DatasetFacts:
    spec = study.dataset(cell.task, cell.length, cell.seed)
    return known_dataset(spec, study.results) or DatasetFacts(_hex(spec.identity_json))


def schema1_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same result as the published code would have written it: without the keys added since."""
    keys = list(record)[: list(record).index("timestamp") + 1]
    return {key: record[key] for key in keys}


def write_results(study: Study, cells: Iterable[Cell] | None = None, **changes: Any) -> list[dict[str, Any]]:
    """Write a record for each cell (all of the study's by default) where the study looks for it; return them."""
    chosen = study.cells if cells is None else cells
    return [write_record(study.result_path(cell), record_of(study, cell, **changes)) for cell in chosen]


def stable_int(text: str) -> int:
    """A number that depends on the text alone, also between processes."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def n_params(cell: Cell) -> int:
    """The published parameter count, else an invented one that differs between models, tasks and, for two, lengths."""
    published = published_parameters().get((model_info(cell.model).id, cell.task, cell.length))
    if published is not None:
        return published
    growing = cell.length if cell.model in ("1a", "3a") else 0
    return 20_000 + stable_int(cell.model + cell.task) % 200_000 + 128 * growing


def _history(study: Study, cell: Cell, rng: np.random.Generator, status: str) -> dict[str, Any]:
    """Curves that get better up to an epoch and then end by the study's patience, or at its last epoch."""
    training, n = study.training_settings(cell.model), study.training_settings(cell.model)["max_epochs"]
    n_train, n_val, _ = study.dataset(cell.task, cell.length, cell.seed).split_sizes
    regression = task_info(cell.task).id != "forrelation"
    best = int(rng.integers(1, (n if regression else min(n, training["patience"])) + 1))
    epochs = min(n, best + training["patience"])
    decay = np.exp(-3 * np.arange(epochs) / epochs)
    val_loss = (0.17 if regression else 0.7) * (0.1 + 0.9 * decay) * rng.lognormal(0, 0.1, epochs)
    val_loss[:best], val_loss[best:] = -np.sort(-val_loss[:best]), val_loss[:best].min() * rng.uniform(1, 1.5)
    correct = np.minimum(rng.binomial(n_val, 0.52, epochs), n_val - 1)
    correct[best - 1] = correct.max() + 1
    val_metric = val_loss if regression else correct / n_val
    train_metric = 0.9 * val_loss if regression else np.round(0.9 * val_metric * n_train) / n_train
    curves = {"train_loss": 0.9 * val_loss, "train_metric": train_metric, "val_loss": val_loss,
              "val_metric": val_metric}
    history: dict[str, Any] = {key: [float(v) for v in values] for key, values in curves.items()}
    if status == "diverged":
        for key in ("train_loss", "val_loss", "val_metric"):
            history[key][-1] = None
    history["epochs"] = list(range(1, epochs + 1))
    history["lr"] = [training["learning_rate"] / 2 * (1 + math.cos(math.pi * e / n)) for e in range(epochs)]
    return history


def _test_metrics(study: Study, cell: Cell, rng: np.random.Generator, status: str) -> dict[str, Any]:
    kind, strength = task_info(cell.task).kind, stable_int(cell.model) % 100 / 100
    if status == "diverged":
        return dict.fromkeys(METRICS[kind])
    if kind == "classification":
        n_test = study.dataset(cell.task, cell.length, cell.seed).split_sizes[2]
        accuracy = float(rng.binomial(n_test, 0.5 + 0.04 * strength) / n_test)
        return dict(zip(METRICS[kind], (accuracy, accuracy, max(0.0, accuracy - 0.01), 0.69), strict=True))
    variance = variance_of(study, cell)
    left = math.exp(-7 * strength) if cell.task == "adding_problem" else 0.9 - 0.7 * strength
    mse = variance * left * float(rng.lognormal(0, 0.2))
    return dict(zip(METRICS[kind], (mse, 0.8 * math.sqrt(mse), 1 - mse / variance), strict=True))


def _extra(cell: Cell, rng: np.random.Generator, status: str) -> dict[str, Any]:
    if status == "diverged":
        return {}
    if task_info(cell.task).kind == "classification":
        return {"majority_rate": float(rng.integers(250, 268) / 500), "majority_rate_val": 0.534,
                "constant_prediction": bool(rng.random() < 0.2), "brier": 0.25}
    nominal = 1 / 6 if cell.task == "adding_problem" else 1 / 12
    extra = {"baseline_test": nominal * float(rng.lognormal(0, 0.02)), "skill": 0.5}
    if cell.task == "selective_copy":
        extra |= {"position_accuracy": float(rng.random()), "sequence_accuracy": float(rng.random() / 10)}
    return extra


def _training(study: Study, cell: Cell, history: Mapping[str, Any], status: str) -> dict[str, Any]:
    training, n, curve = study.config["training"], len(history["epochs"]), history["val_metric"]
    kind = task_info(cell.task).kind
    known = [value for value in curve if value is not None]
    best = curve.index((min if kind == "regression" else max)(known)) + 1 if known else None
    ended = "patience" if best is None or n - best >= training["patience"] else "max_epochs"
    return {
        "dropout": study.model_settings(cell.model, cell.length)["dropout"],
        "patience": training["patience"], "clip_norm": training["clip_norm"],
        "optimizer": "AdamW", "scheduler": "cosine per epoch",
        "monitor": "validation accuracy" if kind == "classification" else "validation MSE",
        "best_epoch": None if status == "no_improvement" else best,
        "stop_reason": "non_finite" if status == "diverged" else ended,
        "diverged_epoch": n if status == "diverged" else None,
        "nonfinite_grad_steps": 0, "n_resumes": 0, "seconds_per_epoch_median": 12.5, "lr_final": history["lr"][-1],
    }


def _provenance(study: Study, cell: Cell) -> dict[str, Any]:
    return {
        "source": study.system, "host": "testhost", "device_name": "cpu", "device_type": "cpu", "cpu": "test",
        "job_id": None, "array_task_id": None, "git_commit": None, "git_dirty": None, "package_version": __version__,
        "config_sha256": study.settings_sha256(cell), "cell_key": study.cell_key(cell), "python": "3.11.0",
        "torch": "2.7.0", "numpy": "2.0.0", "cuda": None, "threads": 1, "deterministic": True,
        "started_utc": "2026-08-01T11:00:00Z", "finished_utc": "2026-08-01T12:00:00Z", "peak_memory_mb": 512.0,
        "wall_seconds": 100.0, "command": "qablate train",
    }


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
