"""Checks on stored weights, without training: is the circuit used, is it entangled, what was there before training?

Each function takes a model and a dataset and returns plain numbers for a JSON; scores are the task's primary metric on
the test items. Nothing is changed: kinds of circuit are exchanged for the time of a call, weights never.
Shapes: n items, c channels, l length, k chunks, d model width, o outputs, q qubits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from qablate.analysis.bounds import CHUNKED_IN_BOTH_DIRECTIONS
from qablate.errors import QablateError
from qablate.files import check_writable, write_json
from qablate.models import SequenceModel, build_model
from qablate.models.published import load_trained, result_and_weights, untrained
from qablate.quantum.kinds import DepolarisingCircuits, ExactCircuits, ObservedCircuits, circuit_kind
from qablate.records import content_sha256
from qablate.results import checks_path, read_record
from qablate.results.judging import differences
from qablate.study import Study
from qablate.tasks import Dataset, classification_metrics, regression_metrics, split_of
from qablate.tasks.solvers import cell_mean_score, degree_marks, read_cells, ridge
from qablate.tasks.store import make_dataset
from qablate.training.loop import outputs_of

Numbers = dict[str, Any]
Change = Callable[[ExactCircuits], ExactCircuits]
PROBE_ITEMS = 4000
NOISE_ITEMS = 100
GRADIENT_DRAWS = 200
STEPS_PER_CHUNK = 32
"""Of the shuffles, in models that read single steps."""


def check_file(study: Study, path: Path, seed: int = 0) -> Path:
    """Check the trained model of a result of the study (or of the weights next to it); return the file of the answers.

    That is `checks/..._checks.json`, so that counting results never counts one. It holds what `check_model` returns,
    the exact cell means or degree marks of the same test items, the variance of gradients at initialisation, and the
    hash of the result; without weights next to the result, what needs none. A missing dataset is made. Raises
    QablateError for a result that is not whole or of another study or dataset, and for weights of another model;
    MachineError, before anything is computed, for a folder that cannot be written.
    """
    result, weights = result_and_weights(path)
    record = read_record(result)
    try:
        cell = study.cell(record["model_id"], record["task"], record["seq_len"], record["seed"])
    except QablateError as error:
        raise QablateError(f"{result}: {error}") from error
    if lines := differences(study, cell, record):
        raise QablateError(f"{result}: not of study '{study.name}': {lines[0]}")
    target = checks_path(result)
    check_writable(target.parent)
    dataset = make_dataset(study.dataset(cell.task, cell.length, cell.seed), study.dataset_path(cell))
    model = untrained(record)
    answers = {"result_sha256": content_sha256(record), **marks(model, dataset), "gradients": gradient_variance(
        model, _inputs(model, dataset), n_draws=GRADIENT_DRAWS, seed=seed) if _has_states(model) else None}
    if weights.is_file():
        answers |= check_model(cast(SequenceModel, load_trained(result)), dataset, seed)
    write_json(target, answers)
    return target


def marks(model: SequenceModel, dataset: Dataset) -> Numbers:
    """Return what simple rules reach on the test items: of Selective Copy the exact cell means of the model's chunks
    (`cell_means`), of Forrelation products with at most d address bits (`degree_marks`, by d); None for other tasks.
    """
    spec, chunk = dataset.spec, model.sizes.chunk
    means = cell_mean_score(dataset, chunk, model.model_id in CHUNKED_IN_BOTH_DIRECTIONS) if (
        spec.task == "selective_copy" and chunk > 1) else None
    degrees = range(1, min(4, 2 * int(spec.parameters.get("n_bits", 0))) + 1)
    return {"cell_means": means, "degree_marks": {str(degree): score for degree, score in degree_marks(
        dataset, degrees).items()} if spec.task == "forrelation" else None}


def check_model(model: SequenceModel, dataset: Dataset, seed: int = 0) -> Numbers:
    """Run all checks of one model; a minute at most at 200 steps. What does not apply to the model is None.

    `seed` draws shuffles, the untrained weights of the probe, shots and errors. Raises QablateError if the dataset has
    other channels, length or outputs than the model, and for a model whose outputs are not finite.

    Example:
        >>> model = load_trained(Path("synthetic_1b-chunk16_selective_copy_L100_seed2024_results.json"))
        >>> check_model(model, dataset)["swap"]
        {'exact': 0.489, 'unentangled': 0.469, 'mean_field': 0.482}
    """
    has_states = _has_states(model)
    outputs = _outputs(model, _inputs(model, dataset))
    if not np.isfinite(outputs).all():
        raise QablateError(f"model {model.model_id}: its outputs are not finite, nothing can be checked")
    return {
        "score": score(dataset, outputs),
        "n_test": len(outputs),
        "seed": seed,
        "swap": swap(model, dataset) if has_states else None,
        "entanglement": entanglement(model, dataset) if has_states else None,
        "shuffle": shuffle(model, dataset, seed),
        "probe": probe(model, dataset, seed) if _has_encoder(model) else None,
        "shots": finite_shots(model, dataset, seed=seed) if has_states else None,
        "noise": depolarising(model, dataset, seed=seed) if has_states else None,
    }


def score(dataset: Dataset, outputs: np.ndarray) -> float | None:
    """Return the primary metric of outputs (n, o) of the test items; None where they are not finite."""
    targets = dataset.targets[split_of(dataset.spec).test][: len(outputs)]
    compute = regression_metrics if dataset.spec.info.kind == "regression" else classification_metrics
    return cast(float | None, compute(outputs, targets)[dataset.spec.info.metric])


def swap(model: SequenceModel, dataset: Dataset, kinds: Sequence[str] = ("unentangled", "mean_field")) -> Numbers:
    """Return the score with the circuits of the weights exchanged for each of `kinds`, and with their own.

    A fall shows that later layers were fitted to these features, not that entanglement is needed: only retraining says
    that. No fall settles it.
    """
    inputs = _inputs(model, dataset)

    def score_of(name: str) -> float | None:
        return score(dataset, _outputs(model, inputs, lambda kind: circuit_kind(name, kind.backend)))

    return {name: score_of(name) for name in (model.sizes.settings.circuit, *kinds)}


def meyer_wallach(features: Tensor) -> Tensor:
    """Return Meyer and Wallach's Q (...) of pure states from their <X>, <Y>, <Z> (..., 3 q): 0 product, 1 maximal.

    Q = 2 (1 - mean purity of the single qubits), a qubit's purity being (1 + |Bloch vector|**2) / 2.
    Source: quant-ph/0108104; the form with purities is Brennen's, quant-ph/0305094.
    """
    return 1 - features.unflatten(-1, (3, -1)).square().sum(-2).mean(-1)


def entanglement(model: SequenceModel, dataset: Dataset) -> Numbers:
    """Return the mean, standard deviation and extremes of Q over the measured states of all test items."""
    _require_states(model, "Q")
    measured: list[Tensor] = []
    _outputs(model, _inputs(model, dataset), partial(ObservedCircuits, features=_noted(measured)))
    values = torch.cat([meyer_wallach(features.double()).flatten() for features in measured])
    return {"mean": values.mean().item(), "sd": values.std().item(), "min": values.min().item(),
            "max": values.max().item(), "n_states": len(values)}


def shuffle(model: SequenceModel, dataset: Dataset, seed: int = 0) -> Numbers:
    """Return how far outputs move, in standard deviations, when steps or chunks of every test item are permuted.

    `inside_chunks`: steps keep their chunk; `of_chunks`: full chunks change places, None where there is only one. 0
    says that the model cannot know this order, which decides the upper bound that applies to it.
    """
    inputs = _inputs(model, dataset)  # (n, c, l)
    n, _, length = inputs.shape
    chunk = model.sizes.chunk if model.sizes.chunk > 1 else STEPS_PER_CHUNK
    generator = torch.Generator().manual_seed(seed)
    chunk_of = torch.arange(length) // chunk
    inside = (chunk_of + torch.rand(n, length, generator=generator)).argsort(dim=1)
    places = torch.rand(n, length // chunk, generator=generator)
    places = nn.functional.pad(places, (0, 1), value=2.0)[:, chunk_of]  # an incomplete chunk stays last
    orders = {"inside_chunks": inside, "of_chunks": places.argsort(dim=1, stable=True)}
    plain = _outputs(model, inputs)
    spread = np.sqrt(plain.var(axis=0).mean())
    changes: Numbers = {"chunk": chunk}
    for name, order in orders.items():
        moved = _outputs(model, inputs.gather(2, order[:, None, :].expand_as(inputs).to(inputs.device)))
        change = float(np.sqrt(np.mean((moved - plain) ** 2)) / spread) if spread > 0 else None
        changes[name] = None if name == "of_chunks" and length < 2 * chunk else change
    return changes


def probe(model: SequenceModel, dataset: Dataset, seed: int = 0) -> Numbers:
    """Return what a linear read-out of the *untrained* encoder reaches: 4,000 training items, own validation and test.

    `ridge`: the score of a ridge on all tokens of the encoder. `cells`, for Selective Copy: the fixed rule "the j-th
    output is the mean of the chunk that holds the j-th marker", on ridge estimates of each chunk's count and sum of
    marked values; None where the encoder returns no tokens of chunks (2a). What an untrained part does already cannot
    be credited to a trained circuit.
    """
    if not _has_encoder(model):
        raise QablateError(f"model {model.model_id}: no encoder in front of the mixer, nothing to probe")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = model.sizes
        fresh = build_model(model.model_id, sizes.n_channels, sizes.length, sizes.n_outputs, sizes.settings).eval()
    split, regression = split_of(dataset.spec), dataset.spec.info.kind == "regression"
    parts = [split.train[:PROBE_ITEMS], split.val, split.test]
    with torch.no_grad():
        tokens = [torch.cat([fresh.encoder(fresh.tokens(batch)) for batch in _inputs(fresh, dataset, part).split(100)])
                  .numpy() for part in parts]  # (n, k, d) each, (n, d) where the encoder mixes the chunks itself
    targets = [dataset.targets[part].astype(np.float64) for part in parts]
    if not regression:
        targets = [(2 * labels - 1)[:, None] for labels in targets]
    flat = [part.reshape(len(part), -1) for part in tokens]
    fitted = ridge((flat[0], targets[0]), (flat[1], targets[1]), flat[2])
    cells = None
    if dataset.spec.task == "selective_copy" and tokens[0].shape[1:-1] == (sizes.n_tokens,):
        cells = score(dataset, _read_by_cells(tokens, [_cells(dataset, part, sizes.chunk) for part in parts], targets))
    outputs = fitted if regression else np.concatenate([-fitted, fitted], axis=1)  # two logits for classes
    return {"ridge": score(dataset, outputs), "cells": cells}


def finite_shots(
    model: SequenceModel, dataset: Dataset, shots: Iterable[int] = (100, 1_000, 10_000), seed: int = 0
) -> list[Numbers]:
    """Return, per number of shots, the score and the agreement of outputs with the exact ones.

    Every expectation value is estimated from so many shots of its own: 2 Binomial(shots, (1 + value) / 2) / shots - 1.
    """
    _require_states(model, "shots")
    rows, generator, inputs = [], np.random.default_rng(seed), _inputs(model, dataset)
    exact = _outputs(model, inputs)

    def sampled(number: int, features: Tensor) -> Tensor:
        chances = ((1 + features.double().cpu().numpy()) / 2).clip(0, 1)
        return torch.as_tensor(generator.binomial(number, chances) * 2 / number - 1).to(features)

    for number in shots:
        outputs = _outputs(model, inputs, partial(ObservedCircuits, features=partial(sampled, number)))
        rows.append({"shots": number, "score": score(dataset, outputs), **_agreement(dataset, outputs, exact)})
    return rows


def depolarising(
    model: SequenceModel,
    dataset: Dataset,
    rates: Iterable[float] = (0.001, 0.01),
    n_trajectories: int = 100,
    seed: int = 0,
) -> list[Numbers]:
    """Return, per rate, the score and the agreement of outputs with the exact ones, on the first test items.

    After every gate each of its wires suffers X, Y or Z with probability `rate` / 3 each; the measured features are
    means over random trajectories. Branches of a superposition err independently, and are normalised before measuring.
    """
    _require_states(model, "noise")
    inputs = _inputs(model, dataset)[:NOISE_ITEMS]
    exact, rows = _outputs(model, inputs), []
    for rate in rates:
        replayed = iter(_mean_features(model, inputs, rate, n_trajectories, seed))
        outputs = _outputs(model, inputs, partial(ObservedCircuits, features=partial(_next, replayed)))
        rows.append({"rate": rate, "n_items": len(inputs), "n_trajectories": n_trajectories,
                     "score": score(dataset, outputs), **_agreement(dataset, outputs, exact)})
    return rows


def _next(stored: Iterator[Tensor], features: Tensor) -> Tensor:
    return next(stored)


def _mean_features(
    model: SequenceModel, inputs: Tensor, rate: float, n_trajectories: int, seed: int
) -> list[Tensor]:
    """What the model's circuits measure under noise, one tensor per call: means over trajectories."""
    generator, totals = torch.Generator().manual_seed(seed), list[Tensor]()

    def erring(kind: ExactCircuits) -> ExactCircuits:
        return ObservedCircuits(DepolarisingCircuits(kind, rate, generator), features=_noted(measured))

    for _ in range(n_trajectories):
        measured: list[Tensor] = []
        _outputs(model, inputs, erring)
        totals = [old + new for old, new in zip(totals, measured, strict=True)] if totals else measured
    return [total / n_trajectories for total in totals]


def gradient_variance(
    model: SequenceModel,
    inputs: Tensor,
    n_qubits: Iterable[int] = range(4, 11),
    n_draws: int = GRADIENT_DRAWS,
    seed: int = 0,
) -> list[Numbers]:
    """Return, per number of qubits, the variance of d<Z_0>/d(angle) over fresh initial weights, averaged over angles.

    The weights are those of the model's id and settings. `inputs` (n, c, l): draw i reads item i mod n. Angles are as
    the untrained maps make them, not uniform. <Z_0> is that of every measured state.
    """
    rows, sizes = [], model.sizes
    for q in n_qubits:
        slopes, settings = [], replace(sizes.settings, n_qubits=q)
        with torch.random.fork_rng(devices=[]):
            for draw in range(n_draws):
                torch.manual_seed(seed + draw)
                fresh = build_model(model.model_id, sizes.n_channels, sizes.length, sizes.n_outputs, settings).eval()
                slopes.append(_slopes(fresh, inputs[draw % len(inputs)][None]))
        rows.append({"n_qubits": q, "variance": torch.stack(slopes).var(dim=0).mean().item(), "n_draws": n_draws})
    return rows


def _slopes(model: SequenceModel, inputs: Tensor) -> Tensor:
    """Derivatives of the sum of all measured <Z_0> with respect to every angle of every circuit, flat."""
    q, measured, angles = model.sizes.settings.n_qubits, list[Tensor](), list[Tensor]()

    def leaf(given: Tensor) -> Tensor:
        return _noted(angles)(given.detach().requires_grad_())

    with _exchanged(model, partial(ObservedCircuits, features=_noted(measured), angles=leaf)):
        model.encoder(model.tokens(inputs))
    total = torch.stack([features[..., 2 * q].sum() for features in measured]).sum()
    return torch.cat([slope.flatten() for slope in torch.autograd.grad(total, angles)])


# Circuits of a model.


def _noted(into: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def note(features: Tensor) -> Tensor:
        into.append(features)
        return features

    return note


def _kinds(model: SequenceModel) -> list[nn.Module]:
    """The modules that hold a kind of circuit."""
    return [module for module in model.modules() if isinstance(getattr(module, "kind", None), ExactCircuits)]


@contextmanager
def _exchanged(model: SequenceModel, change: Change) -> Iterator[None]:
    """The model with another kind of circuit, until the block ends."""
    modules = cast(list[Any], _kinds(model))
    before = [module.kind for module in modules]
    try:
        for module in modules:
            module.kind = change(module.kind)
        yield
    finally:
        for module, kind in zip(modules, before, strict=True):
            module.kind = kind


def _has_states(model: SequenceModel) -> bool:
    return bool(_kinds(model)) and model.sizes.settings.circuit in ("exact", "unentangled")


def _require_states(model: SequenceModel, what: str) -> None:
    if not _has_states(model):
        has = f"its circuits are {model.sizes.settings.circuit}" if _kinds(model) else "it has no circuit"
        raise QablateError(f"model {model.model_id}: {what} need quantum states, but {has}")


def _has_encoder(model: SequenceModel) -> bool:
    return not isinstance(model.encoder, nn.Identity)


# Items and outputs.


def _inputs(model: SequenceModel, dataset: Dataset, part: np.ndarray | None = None) -> Tensor:
    """Inputs (n, c, l) of some items, by default of the test items, where the model is."""
    wanted = (model.sizes.n_channels, model.sizes.length, model.sizes.n_outputs)
    found = (dataset.spec.n_channels, dataset.spec.length, dataset.spec.n_outputs)
    if wanted != found:
        raise QablateError(f"model {model.model_id}: (channels, length, outputs) are {wanted}, the dataset has {found}")
    items = dataset.sequences[split_of(dataset.spec).test if part is None else part]
    return torch.from_numpy(np.ascontiguousarray(items.transpose(0, 2, 1))).to(next(model.parameters()).device)


def _outputs(model: SequenceModel, inputs: Tensor, change: Change = lambda kind: kind) -> np.ndarray:
    """Outputs (n, o) with another kind of circuit, in evaluation mode, in which the model is left."""
    with _exchanged(model, change):
        outputs = outputs_of(model, inputs)
    model.eval()
    return outputs.cpu().double().numpy()


def _agreement(dataset: Dataset, outputs: np.ndarray, exact: np.ndarray) -> Numbers:
    """`agreement`: R2 against the exact outputs; for classes, the share of equal predictions."""
    if dataset.spec.info.kind == "classification":
        return {"agreement": float(np.mean(outputs.argmax(axis=1) == exact.argmax(axis=1)))}
    return {"agreement": regression_metrics(outputs, exact)["test_r2"]}


def _cells(dataset: Dataset, part: np.ndarray, chunk: int) -> np.ndarray:
    """Count and sum of the marked values per chunk: (n, k, 2)."""
    sequences = dataset.sequences[part].astype(np.float64)
    padded = np.pad(sequences, ((0, 0), (0, -sequences.shape[1] % chunk), (0, 0)))
    chunks = padded.reshape(len(padded), -1, chunk, 2)
    return np.stack([chunks[..., 1].sum(axis=2), chunks.prod(axis=3).sum(axis=2)], axis=2)


def _read_by_cells(tokens: list[np.ndarray], cells: list[np.ndarray], targets: list[np.ndarray]) -> np.ndarray:
    rows = [part.reshape(-1, part.shape[-1]) for part in tokens]  # chunks of all items alike
    wanted = [part.reshape(-1, 2) for part in cells]
    fitted = ridge((rows[0], wanted[0]), (rows[1], wanted[1]), rows[2]).reshape(cells[2].shape)
    return read_cells(fitted[..., 0], fitted[..., 1], targets[2].shape[1])
