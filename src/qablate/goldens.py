"""Known facts of the published study that results are held against; the tables lie in `goldens/`."""

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qablate.files import packaged_text

PUBLISHED_MODEL = {"n_qubits": 6, "n_layers": 2, "d_model": 128, "d_state": 16, "n_heads": 4}
"""Settings that the published numbers of parameters belong to."""


@dataclass(frozen=True)
class DatasetFacts:
    """What a result must say of the dataset it was made with; None where it is not known.

    `test_target_var` is the population variance of all test targets around one grand mean, `reference_accuracy` the
    test accuracy of the solver that knows what Forrelation is (`plug_in`).
    """

    sha256: str
    split_sha256: str | None = None
    test_target_var: float | None = None
    reference_accuracy: float | None = None


def _rows(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(packaged_text(f"goldens/{name}.csv").splitlines())


@functools.cache
def published_datasets() -> Mapping[str, DatasetFacts]:
    """Map the identity JSON of each of the 33 published datasets to what is known of it."""
    reference = {row["dataset_sha256"]: float(row["score"]) for row in _rows("forrelation_solvers")
                 if row["solver"] == "plug_in"}
    return {row["identity"]: DatasetFacts(row["dataset_sha256"], row["split_sha256"],
                                          float(row["test_target_var"]) if row["test_target_var"] else None,
                                          reference.get(row["dataset_sha256"])) for row in _rows("published_datasets")}


@functools.cache
def published_parameters() -> Mapping[tuple[str, str, int], int]:
    """Map model, task and length of the published study to the total number of parameters."""
    return {(row["model"], row["task"], int(row["length"])): int(row["n_params"])
            for row in _rows("published_parameters")}
