"""Tasks of the study: generators, datasets on disk, splits, metrics, baselines and leak checks. numpy only."""

from qablate.tasks.baselines import dataset_statistics, measured_baseline
from qablate.tasks.dataset import Dataset
from qablate.tasks.generation import generate
from qablate.tasks.metrics import classification_metrics, extra_metrics, regression_metrics
from qablate.tasks.splits import Split, make_split, split_of
from qablate.tasks.store import load_dataset, make_dataset, save_dataset

__all__ = [
    "Dataset",
    "Split",
    "classification_metrics",
    "dataset_statistics",
    "extra_metrics",
    "generate",
    "load_dataset",
    "make_dataset",
    "make_split",
    "measured_baseline",
    "regression_metrics",
    "save_dataset",
    "split_of",
]
