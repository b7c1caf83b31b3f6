"""Trained models from their files: the result says how a model is built, the weights lie next to it."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qablate.errors import QablateError
from qablate.models.registry import SequenceModel, build_model
from qablate.models.sizes import ModelSettings
from qablate.results import read_record

RESULT, WEIGHTS = "results.json", "model.pt"


def result_and_weights(path: Path) -> tuple[Path, Path]:
    """Return both files of a run from either; a QablateError for another file."""
    stem = path.name.removesuffix(RESULT).removesuffix(WEIGHTS)
    if stem == path.name:
        raise QablateError(f"{path}: neither a result (..._{RESULT}) nor weights (..._{WEIGHTS})")
    return path.with_name(stem + RESULT), path.with_name(stem + WEIGHTS)


def load_trained(path: Path) -> nn.Module:
    """Return the model of a result or of its weights in evaluation mode, on the CPU; a QablateError says why not."""
    result, weights = result_and_weights(path)
    model = untrained(read_record(result))
    if not weights.is_file():
        raise QablateError(f"{weights}: no weights next to the result; `qablate train` makes them again")
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise QablateError(f"{weights}: not weights of this result: {str(error).splitlines()[0]}") from error
    return model.eval()


def untrained(record: Mapping[str, Any]) -> SequenceModel:
    """Return a fresh model with the sizes and settings of a checked record."""
    settings = {key: record["hyperparameters"][key] for key in ("n_qubits", "n_layers", "d_model", "d_state")}
    if record["schema_version"] == 2:
        settings |= {"n_heads": record["model_config"]["n_heads"], "dropout": record["training"]["dropout"]}
        changed = (record["model_variant"] or {"settings": {}})["settings"]
        settings |= {key.removeprefix("model."): value for key, value in changed.items() if key.startswith("model.")}
    shape = record["data_info"]
    return build_model(record["model_id"], shape["n_channels"], shape["n_timesteps"], shape["output_dim"],
                       ModelSettings(**settings))
