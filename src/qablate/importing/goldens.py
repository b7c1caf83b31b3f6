"""Known facts of the published study that imported files are held against."""

import csv
import functools
import json
from collections.abc import Iterator, Mapping

from qablate.files import packaged_text


def _rows(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(packaged_text(f"goldens/{name}").splitlines())


@functools.cache
def published_parameters() -> Mapping[tuple[str, str, int], int]:
    """Map model, task and length of the published study to the total number of parameters."""
    return {(row["model"], row["task"], int(row["length"])): int(row["n_params"])
            for row in _rows("published_parameters.csv")}


@functools.cache
def target_variances() -> Mapping[tuple[str, int, int], float]:
    """Map task, length and seed of the published regression datasets to the variance of their test targets."""
    found = {}
    for row in _rows("published_datasets.csv"):
        if row["test_target_var"]:
            identity = json.loads(row["identity"])
            found[identity["task"], identity["seq_len"], identity["seed"]] = float(row["test_target_var"])
    return found
