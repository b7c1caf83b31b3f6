"""What a score is to be compared with: baselines of the data and bounds that follow from how a model reads it.

The ceiling at Selective Copy follows from what a model can know of the order of the steps (`qablate.tasks.solvers`).
"""

import pandas as pd

from qablate.analysis.runs import Collection
from qablate.catalog import model_info
from qablate.tasks.solvers import chunk_ceiling

ORDER_LOST_INSIDE_CHUNK = ("1a", "1b", "1c", "2a", "2d", "2e")
"""Models that pool every chunk before any position enters; permuting the steps inside a chunk changes nothing."""

CHUNKED_IN_BOTH_DIRECTIONS = ("1c",)
"""These pool the reversed sequence too, cut anew, so that a step is known by the cells of both cuttings."""

NAMES = {"test_mse": "training mean predicted", "test_r2": "training mean predicted",
         "test_acc": "majority class predicted"}


def model_ceiling(model: str, length: int, n_markers: int) -> float | None:
    """Return the chunk ceiling of a model at one length, or None where it does not bind."""
    if model not in ORDER_LOST_INSIDE_CHUNK:
        return None
    return chunk_ceiling(length, model_info(model).chunk, n_markers, model in CHUNKED_IN_BOTH_DIRECTIONS)


def baseline_by_length(collection: Collection, task: str) -> pd.DataFrame:
    """Return mean, spread and number of the measured baselines per length, all planned lengths as rows.

    That of a dataset is the majority rate, or the MSE of the training mean, on its test split as the results store it;
    datasets known from published files only have none.
    """
    by_dataset = collection.runs_of(task).groupby(["length", "seed"])["baseline_measured"].first()
    return by_dataset.groupby("length").agg(["mean", "std", "count"]).reindex(collection.lengths(task))
