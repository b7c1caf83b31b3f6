"""Tasks of the study: generators, datasets on disk, splits, metrics, solvers and leak checks. numpy only."""

from qablate.tasks.dataset import Dataset, generate
from qablate.tasks.draws import Split, split_of
from qablate.tasks.metrics import classification_metrics, extra_metrics, regression_metrics
from qablate.tasks.store import load_dataset, make_dataset, save_dataset

__all__ = ["Dataset", "Split", "classification_metrics", "extra_metrics", "generate", "load_dataset", "make_dataset",
           "regression_metrics", "save_dataset", "split_of"]
