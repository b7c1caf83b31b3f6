"""Datasets on disk: one .npz of plain arrays and a sidecar .json with identity, hashes and statistics.

The sidecar is written first and the .npz last. A sidecar alone is a true statement about bytes that the generator will
make again; the .npz, the file that everyone waits for, appears only when everything about the dataset is there. Two
writers at once put the same content under temporary names and rename it: whoever comes last changes nothing.

Files are untrusted. Shapes and dtypes follow from the identity, members are stored without compression, so the size of
a genuine file is known before it is opened, and nothing is allocated for a file that has another one.
"""

import io
import json
import math
import platform
import stat
import struct
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qablate import __version__
from qablate.errors import QablateError
from qablate.files import read_regular, write_atomic, write_json
from qablate.study import MAX_SIDECAR_BYTES, DatasetSpec, published_sha256
from qablate.tasks.dataset import Array, Dataset, Layout, generate, generator_of, layout_of
from qablate.tasks.draws import split_of
from qablate.tasks.metrics import dataset_statistics

MAX_HEADER_BYTES = 1_000
"""Generous bound on what the .npy and zip headers of one member take."""


def make_dataset(spec: DatasetSpec, path: Path) -> Dataset:
    """Generate a dataset, check its hash and save it at `path`; an existing valid one is left as it is."""
    dataset = generate(spec)
    save_dataset(dataset, path)
    return dataset


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset and its sidecar; what is already there is checked and never overwritten.

    Raises QablateError when an existing file or sidecar holds another dataset or is damaged.
    """
    sidecar, spec = path.with_suffix(".json"), dataset.spec
    if sidecar.exists():
        _require_same(sidecar, "names dataset", _hash_in(sidecar, spec), dataset.sha256)
    if path.exists():
        _read_checked(path, spec, dataset.sha256)
    if not sidecar.exists():
        write_json(sidecar, {    # no time, host or path: every writer of a dataset writes the same
            "identity": dict(sorted(spec.identity.items())),
            "dataset_sha256": dataset.sha256,
            "split_id": spec.split_id,
            "split_sha256": split_of(spec).sha256,
            "versions": {"qablate": __version__, "numpy": np.__version__, "python": platform.python_version()},
            "statistics": dataset_statistics(dataset),
        })
    if not path.exists():
        write_atomic(path, lambda file: _write_arrays(file, dataset))


def load_dataset(path: Path, spec: DatasetSpec) -> Dataset:
    """Read the dataset `spec` from `path`: identity by the sidecar, bytes by their hash.

    Raises QablateError: a missing file, another identity, other bytes (with both hashes), or no dataset at all.
    """
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.exists():
            raise QablateError(f"{file}: no such file; `qablate dataset` makes it, with the --config of its study")
    named = _hash_in(sidecar, spec)
    expected = published_sha256().get(spec.identity_json, named)
    _require_same(sidecar, "names dataset", named, expected)
    return _read_checked(path, spec, expected)


def _hash_in(path: Path, spec: DatasetSpec) -> str:
    """The dataset hash that a sidecar names, after a look at the identity."""
    try:
        content = json.loads(read_regular(path, MAX_SIDECAR_BYTES))
    except OSError as error:
        raise QablateError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise QablateError(f"{path}: not valid JSON: {str(error)[:120]}") from error
    if not isinstance(content, dict) or not isinstance(content.get("identity"), dict):
        raise QablateError(f"{path}: not the sidecar of a dataset (no 'identity')")
    found, wanted = content["identity"], spec.identity
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise QablateError(f"{path}: {key} is {str(found.get(key))[:60]!r}, asked for {wanted.get(key)!r}")
    return str(content.get("dataset_sha256"))[:64]


def _require_same(path: Path, holds: str, found: str, expected: str) -> None:
    if found != expected:
        raise QablateError(f"{path}: {holds} {found}, expected {expected}; remove both files of this dataset to make "
                           "it again")


def _write_arrays(file: BinaryIO, dataset: Dataset) -> None:
    spec = dataset.spec
    arrays = {**dataset.arrays, "sequences": generator_of(spec.task).recode(spec, dataset.sequences, True)}
    little = {name: np.ascontiguousarray(arrays[name], dtype=dtype) for name, (dtype, _) in layout_of(spec).items()}
    np.savez(file, allow_pickle=False, **little)


def _read_checked(path: Path, spec: DatasetSpec, expected: str) -> Dataset:
    arrays = _read_arrays(path, layout_of(spec))
    sequences = generator_of(spec.task).recode(spec, arrays.pop("sequences"), False)
    dataset = Dataset(spec, sequences, arrays.pop("targets"), arrays)
    _require_same(path, "holds data with hash", dataset.sha256, expected)
    return dataset


def _read_arrays(path: Path, layout: Layout) -> dict[str, Array]:
    """Read all arrays, after a look at the size of the file; the zip reader checks the CRC of each.

    That covers the arrays that the hash does not.
    """
    try:
        status, payload = path.stat(), sum(_n_bytes(*facts) for facts in layout.values())
        if not stat.S_ISREG(status.st_mode):
            raise QablateError(f"{path}: not a regular file")
        if not payload < status.st_size <= payload + MAX_HEADER_BYTES * len(layout):
            raise QablateError(f"{path}: {status.st_size} bytes, this dataset takes {payload} and a few headers")
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in layout):
                raise QablateError(f"{path}: holds other arrays than {', '.join(layout)}")
            return {name: _read_member(archive, f"{name}.npy", *facts) for name, facts in layout.items()}
    except OSError as error:
        raise QablateError(f"{path}: cannot read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, struct.error) as error:
        raise QablateError(f"{path}: damaged or no dataset file: {' '.join(str(error).split())[:120]}") from error


def _n_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _read_member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Read one array; the header may claim any shape and dtype, also Python objects. ValueError: another one."""
    member, n_bytes = archive.getinfo(name), _n_bytes(dtype, shape)
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, datasets are stored as they are")
    if not 0 <= member.file_size - n_bytes <= MAX_HEADER_BYTES:
        raise ValueError(f"{name} claims {member.file_size} bytes")
    content = archive.read(name)
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("not an .npy array of format 1.0")
        found = np.lib.format.read_array_header_1_0(stream, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"{name} has no valid header: {error}") from error
    if found != (shape, False, dtype) or len(content) - stream.tell() != n_bytes:
        raise ValueError(f"{name} holds {found[2]} {found[0]} in {len(content) - stream.tell()} bytes, expected "
                         f"{dtype} {shape}")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
