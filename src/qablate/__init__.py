"""The Quantum Hydra/Mamba ablation study as one reproducible pipeline.

For a notebook: `qablate.load_results()`, `qablate.load_model(path)` and `qablate.make_dataset(task, length, seed)`.
Importing the package itself imports neither pandas nor torch.
"""

import operator
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from qablate.tasks import Dataset

__version__ = "0.1.0"


def load_results(folder: str | Path = "results",
                 config: str | Path | Sequence[str | Path] | None = None) -> "pd.DataFrame":
    """Return one row per run that counts for a cell: the table `tables/runs.csv` of the report.

    Args:
        folder: a results folder, or a folder of result JSONs such as `results/systems/cpu`.
        config: settings, each file over those before it; `config.yaml` here or next to the folder if not given.

    Returns:
        A DataFrame with `model, task, length, seed, system, status`, test scores and every other scalar of the record.
        `valid`: the score may enter a mean; a diverged run is not valid.

    Raises:
        QablateError: if the folder or the settings cannot be read.

    Example:
        >>> runs = qablate.load_results()
        >>> runs[runs.valid].groupby(["task", "model", "length"]).test_r2.mean()
    """
    from qablate.analysis.collect import collect, study_of

    runs = collect(study_of(Path(folder), config))
    if runs.table.empty and len(runs.files):
        reasons = ", ".join(f"{n} {reason}" for reason, n in runs.files["reason"].value_counts().items())
        warnings.warn(f"{folder}: no result counts in study '{runs.study.name}' ({reasons}); config= names the "
                      "settings of another study", stacklevel=2)
    return runs.table


def load_model(path: str | Path) -> "nn.Module":
    """Return a trained model, ready to be called: (batch, channels, length) float32 to (batch, n_outputs).

    Args:
        path: a result (`..._results.json`) or the weights next to it (`..._model.pt`).

    Raises:
        QablateError: if one of the two is missing or they do not fit each other.

    Example:
        >>> folder = "results/synthetic_benchmarks"
        >>> model = qablate.load_model(f"{folder}/synthetic_1c_selective_copy_L100_seed2024_results.json")
        >>> model(torch.zeros(1, 2, 100)).shape
        torch.Size([1, 8])
    """
    from qablate.models import load_trained

    return load_trained(Path(path))


def make_dataset(task: str, length: int, seed: int,
                 config: str | Path | Sequence[str | Path] = "config.yaml") -> "Dataset":
    """Return a dataset: made in memory in seconds, written nowhere; a published one has its published hash.

    Args:
        task: `forrelation`, `adding_problem`, `selective_copy`, or another that the settings know.
        length: steps of a sequence; need not be one of the study's.
        seed: of the data and of the split.
        config: settings, each file over those before it.

    Returns:
        A Dataset with `sequences` (items, length, channels) float32, `targets` and `spec`; which items train and which
        test says `qablate.tasks.split_of(dataset.spec)`.

    Raises:
        QablateError: if the settings cannot be read or no such dataset can be made.

    Example:
        >>> qablate.make_dataset("forrelation", 100, 2024).sequences.shape
        (5000, 100, 14)
    """
    from qablate.study import Study
    from qablate.tasks.dataset import generate

    files = [config] if isinstance(config, (str, Path)) else config
    return generate(Study.load(files).dataset(task, operator.index(length), operator.index(seed)))
