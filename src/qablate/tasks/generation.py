"""From the identity of a dataset to its arrays."""

import numpy as np

from qablate.errors import QablateError
from qablate.study import DatasetSpec, published_sha256, split_sizes
from qablate.tasks.dataset import Dataset, generator_of, layout_of
from qablate.tasks.random_words import WORD_LIMIT


class GenerationError(QablateError):
    """A dataset that cannot be made, or that came out other than published."""


def generate(spec: DatasetSpec) -> Dataset:
    """Make a dataset from its identity alone, touching no global random state.

    One of the 33 published datasets must come out with its published hash; otherwise GenerationError names both.
    Lengths, seeds or parameters that no generator here knows are GenerationErrors too.
    """
    _check(spec)
    try:
        dataset = Dataset(spec, *generator_of(spec.task).arrays(spec))
    except MemoryError as error:
        raise GenerationError(f"{_name(spec)}: {spec.n_items} items do not fit the memory of this machine") from error
    _check_arrays(dataset)
    published = published_sha256().get(spec.identity_json)
    if published not in (None, dataset.sha256):
        raise GenerationError(
            f"{_name(spec)}: generated data have hash {dataset.sha256}, published is {published}; "
            "this numpy draws other numbers than the versions qablate was tested with"
        )
    return dataset


def _name(spec: DatasetSpec) -> str:
    return f"{spec.task} L={spec.length} seed={spec.seed}"


def _check(spec: DatasetSpec) -> None:
    known = (*spec.info.parameters, "n_train")
    for key, _ in spec.changed:
        if key not in known:
            raise GenerationError(f"{spec.task}: unknown parameter '{key}', known are {', '.join(known)}")
    n_train, least = spec.split_sizes[0], split_sizes(spec.n_samples)[0]
    if n_train < least:
        raise GenerationError(f"{spec.task}: n_train {n_train} is below the {least} training items of the split")
    if spec.n_samples < 1:
        raise GenerationError(f"{spec.task}: n_samples {spec.n_samples} is below 1")
    if not 0 <= spec.seed < WORD_LIMIT:
        raise GenerationError(f"{spec.task}: seed {spec.seed} is outside 0..{WORD_LIMIT - 1}")
    if longer := spec.info.too_short(spec.length, spec.parameters):
        raise GenerationError(f"{spec.task}: length {spec.length} is shorter than {longer}")


def _check_arrays(dataset: Dataset) -> None:
    """Refuse what a generator made unless it is what its entry in the catalog and its layout say."""
    spec = dataset.spec
    wanted = {**layout_of(spec), "sequences": (np.dtype("<f4"), (spec.n_items, spec.length, spec.n_channels))}
    found = {name: (array.dtype.newbyteorder("<"), array.shape) for name, array in dataset.arrays.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            came, expected = ("{} {}".format(*facts[name]) if name in facts else "absent" for facts in (found, wanted))
            raise GenerationError(f"{spec.task}: {name} came out as {came}, expected {expected}")
    if spec.info.kind == "classification" and not np.isin(dataset.targets, (0, 1)).all():
        raise GenerationError(f"{spec.task}: labels other than 0 and 1 came out")
