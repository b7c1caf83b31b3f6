"""Datasets on disk: one .npz of plain arrays and a sidecar .json with identity, hashes and statistics.

The sidecar is written first and the .npz last. A sidecar alone is a true statement about bytes that the generator will
make again; the .npz, the file that everyone waits for, appears only when everything about the dataset is there. Two
writers at once put the same content under temporary names and rename it: whoever comes last changes nothing.

Files are untrusted. Shapes and dtypes follow from the identity, members are stored without compression, so the size of
a genuine file is known before it is opened, and nothing is allocated for a file that has another one.
"""

import json
import platform
import stat
import struct
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from qablate import __version__
from qablate.errors import QablateError
from qablate.files import read_regular, write_atomic, write_json
from qablate.study import MAX_SIDECAR_BYTES, DatasetSpec, published_sha256
from qablate.tasks.baselines import dataset_statistics
from qablate.tasks.dataset import Array, Dataset, Layout, generator_of, layout_of
from qablate.tasks.generation import generate
from qablate.tasks.splits import split_of

MAX_HEADER_BYTES = 1_000
"""Generous bound on what the .npy and zip headers of one member take."""
READ_BYTES = 1 << 22


class DatasetError(QablateError):
    """A dataset file that is missing, damaged, or another one than asked for."""


def make_dataset(spec: DatasetSpec, path: Path) -> Dataset:
    """Generate a dataset, check its hash and save it at `path`; an existing valid one is left as it is."""
    dataset = generate(spec)
    save_dataset(dataset, path)
    return dataset


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset and its sidecar; what is already there is checked and never overwritten.

    Raises DatasetError when an existing file or sidecar holds another dataset or is damaged.
    """
    sidecar = path.with_suffix(".json")
    if sidecar.exists():
        _check_sidecar(_read_sidecar(sidecar), sidecar, dataset.spec, dataset.sha256)
    if path.exists():
        _read_checked(path, dataset.spec, dataset.sha256)
    if not sidecar.exists():
        write_json(sidecar, _sidecar(dataset))
    if not path.exists():
        write_atomic(path, lambda file: _write_arrays(file, dataset))


def load_dataset(path: Path, spec: DatasetSpec) -> Dataset:
    """Read the dataset `spec` from `path`: identity by the sidecar, bytes by their hash.

    Raises DatasetError: a missing file (with the command that makes it), another identity, other bytes (with both
    hashes), or no dataset at all.
    """
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.exists():
            raise DatasetError(f"{file}: no such file; `{_command(spec)}` makes it, with the --config of its study")
    content = _read_sidecar(sidecar)
    expected = published_sha256().get(spec.identity_json, str(content.get("dataset_sha256")))
    _check_sidecar(content, sidecar, spec, expected)
    return _read_checked(path, spec, expected)


def _command(spec: DatasetSpec) -> str:
    return f"qablate dataset --task {spec.task} --length {spec.length} --seed {spec.seed}"


def _sidecar(dataset: Dataset) -> dict[str, Any]:
    """No time, host or path: every writer of a dataset writes the same sidecar."""
    split = split_of(dataset.spec)
    return {
        "identity": dict(sorted(dataset.spec.identity.items())),
        "dataset_sha256": dataset.sha256,
        "split_id": dataset.spec.split_id,
        "split_sha256": split.sha256,
        "versions": {"qablate": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "statistics": dataset_statistics(dataset),
    }


def _read_sidecar(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_regular(path, MAX_SIDECAR_BYTES))
    except OSError as error:
        raise DatasetError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON: {str(error)[:120]}") from error
    if not isinstance(content, dict) or not isinstance(content.get("identity"), dict):
        raise DatasetError(f"{path}: not the sidecar of a dataset (no 'identity')")
    return content


def _check_sidecar(content: Mapping[str, Any], path: Path, spec: DatasetSpec, expected: str) -> None:
    found, wanted = content["identity"], spec.identity
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise DatasetError(f"{path}: {key} is {str(found.get(key))[:60]!r}, asked for {wanted.get(key)!r}")
    if content.get("dataset_sha256") != expected:
        raise DatasetError(
            f"{path}: names dataset {str(content.get('dataset_sha256'))[:64]}, expected {expected}; "
            "remove both files of this dataset to make it again"
        )


def _write_arrays(file: BinaryIO, dataset: Dataset) -> None:
    spec = dataset.spec
    arrays = {**dataset.arrays, "sequences": generator_of(spec.task).recode(spec, dataset.sequences, True)}
    little = {name: np.ascontiguousarray(arrays[name], dtype=dtype) for name, (dtype, _) in layout_of(spec).items()}
    np.savez(file, allow_pickle=False, **little)


def _read_checked(path: Path, spec: DatasetSpec, expected: str) -> Dataset:
    arrays = _read_arrays(path, layout_of(spec))
    sequences = generator_of(spec.task).recode(spec, arrays.pop("sequences"), False)
    dataset = Dataset(spec, sequences, arrays.pop("targets"), arrays)
    if dataset.sha256 != expected:
        raise DatasetError(
            f"{path}: holds data with hash {dataset.sha256}, expected {expected}; "
            "remove both files of this dataset to make it again"
        )
    return dataset


def _read_arrays(path: Path, layout: Layout) -> dict[str, Array]:
    try:
        _check_size(path, layout)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if len(archive.infolist()) != len(layout) or set(members) != {f"{name}.npy" for name in layout}:
                raise DatasetError(f"{path}: holds other arrays than {', '.join(layout)}")
            return {name: _read_member(path, archive, members[f"{name}.npy"], *layout[name]) for name in layout}
    except OSError as error:
        raise DatasetError(f"{path}: cannot read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError,
            struct.error) as error:
        raise DatasetError(f"{path}: damaged or no dataset file: {str(error)[:120]}") from error


def _check_size(path: Path, layout: Layout) -> None:
    """Refuse a file whose size cannot be that of the dataset, before it is opened."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DatasetError(f"{path}: not a regular file")
    payload = sum(_n_bytes(dtype, shape) for dtype, shape in layout.values())
    if not payload < status.st_size <= payload + MAX_HEADER_BYTES * len(layout):
        raise DatasetError(f"{path}: {status.st_size} bytes, this dataset takes {payload} and a few headers")


def _n_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    return size


def _read_member(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array:
    """Read one array; the zip reader checks its CRC at the end, which covers the arrays that the hash does not."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise DatasetError(f"{path}: {member.filename} is compressed, datasets are stored as they are")
    if not 0 <= member.file_size - _n_bytes(dtype, shape) <= MAX_HEADER_BYTES:
        raise DatasetError(f"{path}: {member.filename} claims {member.file_size} bytes")
    with archive.open(member) as file:
        found = _read_header(path, member.filename, file)
        if found != (shape, False, dtype):
            raise DatasetError(f"{path}: {member.filename} holds {found[2]} {found[0]}, expected {dtype} {shape}")
        array = np.empty(shape, dtype=dtype)
        _fill(array, file)
    return array


def _read_header(path: Path, name: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype that an .npy member claims; the dtype may be one of Python objects."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise DatasetError(f"{path}: {name} is not an .npy array of format 1.0")
        return np.lib.format.read_array_header_1_0(file, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise DatasetError(f"{path}: {name} has no valid header: {' '.join(str(error).split())[:120]}") from error


def _fill(array: Array, file: IO[bytes]) -> None:
    """Read exactly the bytes of `array` into it; one byte less or more is a ValueError."""
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        part = file.read(min(READ_BYTES, len(view) - done))
        if not part:
            raise ValueError("array ends early")
        view[done:done + len(part)] = part
        done += len(part)
    if file.read(1):
        raise ValueError("bytes after the array")
