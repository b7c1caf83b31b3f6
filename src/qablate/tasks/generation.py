"""From the identity of a dataset to its arrays."""

from qablate.errors import QablateError
from qablate.study import DatasetSpec, published_sha256, split_sizes
from qablate.tasks.adding import N_MARKERS, adding_problem
from qablate.tasks.dataset import Arrays, Dataset
from qablate.tasks.forrelation import forrelation
from qablate.tasks.random_words import WORD_LIMIT
from qablate.tasks.selective import selective_copy


class GenerationError(QablateError):
    """A dataset that cannot be made, or that came out other than published."""


def generate(spec: DatasetSpec) -> Dataset:
    """Make a dataset from its identity alone, touching no global random state.

    One of the 33 published datasets must come out with its published hash; otherwise GenerationError names both.
    Lengths, seeds or parameters that no generator here knows are GenerationErrors too.
    """
    _check(spec)
    try:
        dataset = Dataset(spec, *_arrays(spec))
    except MemoryError as error:
        raise GenerationError(f"{_name(spec)}: {spec.n_items} items do not fit the memory of this machine") from error
    published = published_sha256().get(spec.identity_json)
    if published not in (None, dataset.sha256):
        raise GenerationError(
            f"{_name(spec)}: generated data have hash {dataset.sha256}, published is {published}; "
            "this numpy draws other numbers than the versions qablate was tested with"
        )
    return dataset


def _name(spec: DatasetSpec) -> str:
    return f"{spec.task} L={spec.length} seed={spec.seed}"


def _arrays(spec: DatasetSpec) -> Arrays:
    parameters = spec.parameters
    shape = (spec.n_items, spec.length, spec.seed)
    if spec.task == "adding_problem":
        return adding_problem(*shape, placement=str(parameters["placement"]))
    if spec.task == "selective_copy":
        return selective_copy(*shape, int(parameters["n_markers"]), str(parameters["placement"]))
    encoding, order = str(parameters["encoding"]), str(parameters["order"])
    return forrelation(*shape, int(parameters["n_bits"]), float(parameters["reject_abs_phi"]), encoding, order)


def _check(spec: DatasetSpec) -> None:
    known = (*spec.info.parameters, "n_train")
    for key, _ in spec.changed:
        if key not in known:
            raise GenerationError(f"{spec.task}: unknown parameter '{key}', known are {', '.join(known)}")
    n_train, least = spec.split_sizes[0], split_sizes(spec.n_samples)[0]
    if n_train < least:
        raise GenerationError(f"{spec.task}: n_train {n_train} is below the {least} training items of the split")
    if spec.task == "adding_problem" and spec.parameters["n_markers"] != N_MARKERS:
        raise GenerationError(f"{spec.task}: n_markers {spec.parameters['n_markers']} is not made here, only 2")
    if spec.n_samples < 1:
        raise GenerationError(f"{spec.task}: n_samples {spec.n_samples} is below 1")
    if not 0 <= spec.seed < WORD_LIMIT:
        raise GenerationError(f"{spec.task}: seed {spec.seed} is outside 0..{WORD_LIMIT - 1}")
    shortest = spec.info.shortest_length(spec.parameters)
    if spec.length < shortest:
        what = "1 step" if spec.task == "forrelation" else f"its {shortest} markers"
        raise GenerationError(f"{spec.task}: length {spec.length} is shorter than {what}")
