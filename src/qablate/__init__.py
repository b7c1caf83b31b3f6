"""The Quantum Hydra/Mamba ablation study as one reproducible pipeline.

For a notebook: `qablate.load_results()` and `qablate.load_model(path)`. Importing the package itself imports neither
pandas nor torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

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

    return collect(study_of(Path(folder), config)).table


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
