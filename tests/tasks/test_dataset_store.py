"""Datasets on disk: what is written comes back, and nothing else does."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from damage import IN_BYTES, mutated
from hypothesis import HealthCheck, given, settings

from qablate.errors import QablateError
from qablate.study import DatasetSpec, known_dataset
from qablate.tasks import generate, load_dataset, make_dataset, save_dataset, split_of
from qablate.tasks.dataset import Dataset, layout_of

SPEC = DatasetSpec("selective_copy", 20, 1, 40, (("n_markers", 3),))
SPECS = [SPEC, DatasetSpec("adding_problem", 30, 5, 20), DatasetSpec("forrelation", 9, 2, 21, (("n_bits", 3),))]


@pytest.fixture
def stored(tmp_path):
    """A valid dataset file of SPEC."""
    path = SPEC.path(tmp_path)
    make_dataset(SPEC, path)
    return path


def refused(path, spec=SPEC):
    """The one-line message with which loading `path` fails."""
    with pytest.raises(QablateError) as caught:
        load_dataset(path, spec)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.task)
def test_what_is_saved_is_loaded(tmp_path, spec):
    path = spec.path(tmp_path)
    made = make_dataset(spec, path)
    loaded = load_dataset(path, spec)
    assert loaded.sha256 == made.sha256 == generate(spec).sha256
    assert set(loaded.arrays) == set(made.arrays) == set(layout_of(spec))
    for name, (dtype, shape) in layout_of(spec).items():
        assert np.array_equal(loaded.arrays[name], made.arrays[name])
        assert (made.arrays[name].dtype, made.arrays[name].shape) == (dtype, shape)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.with_suffix(".json").name, path.name]


def test_sidecar_says_what_the_dataset_is(stored, tmp_path):
    sidecar = json.loads(stored.with_suffix(".json").read_text())
    assert sidecar["identity"] == SPEC.identity
    assert sidecar["dataset_sha256"] == generate(SPEC).sha256 == known_dataset(SPEC, tmp_path).sha256
    assert sidecar["split_id"] == "perm-32-4-4"
    assert sidecar["split_sha256"] == split_of(SPEC).sha256
    assert sidecar["versions"]["numpy"] == np.__version__
    assert sidecar["statistics"]["nominal_baseline"] == 0.083
    targets, split = generate(SPEC).targets.astype(float), split_of(SPEC)
    expected = np.mean((targets[split.test] - targets[split.train].mean()) ** 2)
    assert sidecar["statistics"]["measured_baseline"] == pytest.approx(expected)


@pytest.mark.parametrize("lost", [None, ".npz", ".json"])
def test_only_what_was_lost_is_made_again(stored, lost):
    before = {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in stored.parent.iterdir()}
    if lost:
        del before[stored.with_suffix(lost)]
        stored.with_suffix(lost).unlink()
        assert "`qablate dataset` makes it" in refused(stored)
    make_dataset(SPEC, stored)
    assert {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in before} == before
    assert load_dataset(stored, SPEC).sha256 == generate(SPEC).sha256


def refused_and_kept(path, message):
    """Loading and making the dataset fail with `message`, and every file stays as it was."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    assert re.search(message, refused(path))
    with pytest.raises(QablateError, match=message):
        make_dataset(SPEC, path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_other_bytes_are_an_error_that_names_both_hashes_and_are_kept(stored):
    other = generate(dataclasses.replace(SPEC, seed=2))
    stored.unlink(), stored.with_suffix(".json").unlink()
    save_dataset(Dataset(SPEC, other.sequences, other.targets, other.extras), stored)
    wrong, right = load_dataset(stored, SPEC).sha256, generate(SPEC).sha256
    for _ in range(2):    # with its sidecar and without
        with pytest.raises(QablateError, match=f"{wrong}, expected {right}"):
            make_dataset(SPEC, stored)
        assert stored.exists()
        stored.with_suffix(".json").unlink(missing_ok=True)


def test_published_data_are_judged_by_the_published_hash(tmp_path):
    spec = DatasetSpec("forrelation", 50, 2024)
    dataset, path = generate(spec), tmp_path / "d.npz"
    targets = dataset.targets.copy()
    targets[0] = 0
    save_dataset(Dataset(spec, dataset.sequences, targets, dataset.extras), path)
    assert "expected 9eee4d1db155" in refused(path, spec)


def test_another_identity_names_the_key(stored):
    for change, message in [({"seed": 2}, "seed is '1', asked for 2"), ({"length": 21}, "seq_len is '20'"),
                            ({"n_samples": 41}, "n_samples is '40'"), ({"changed": ()}, "n_markers is '3'"),
                            ({"task": "adding_problem", "changed": ()}, "generator is 'selective_copy-g1'")]:
        assert message in refused(stored, dataclasses.replace(SPEC, **change))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "no 'identity'"),
        (b'{"identity": 3}', "no 'identity'"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 99_000, "not valid JSON"),
        (b" " * 200_000, "over 100000 bytes"),
    ],
    ids=range(6),
)
def test_bad_sidecars_are_refused_and_kept(stored, content, message):
    stored.with_suffix(".json").write_bytes(content)
    refused_and_kept(stored, message)


def npy(array_bytes, descr, shape, fortran=False, version=(1, 0)):
    """The bytes of an .npy member with a header of our choice."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header + array_bytes


def rewrite(path, compression=zipfile.ZIP_STORED, prefix=b"", **members):
    """Write `path` anew with some members replaced (None: left out)."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {f"{name}.npy": data for name, data in members.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    path.write_bytes(prefix + buffer.getvalue())


TARGETS = bytes(40 * 3 * 4)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy(TARGETS, "<f8", (40, 3)), "targets.npy holds float64"),
        (npy(TARGETS, "<f4", (3, 40)), r"targets.npy holds float32 \(3, 40\)"),
        (npy(TARGETS, "<f4", (40, 3), fortran=True), "targets.npy holds"),
        (npy(TARGETS, "|O", (40, 3)), "targets.npy holds object"),
        (npy(TARGETS, "<f4", (10**15, 10**15)), "targets.npy holds float32"),
        (npy(TARGETS, "<f4", (40, -3)), "targets.npy holds float32"),
        (npy(TARGETS, "<f4", "[" * 400), "has no valid header"),
        (npy(TARGETS, "<f4", (40, 3), version=(2, 0)), "not an .npy array of format 1.0"),
        (TARGETS + b"\0" * 90, "has no valid header"),
        (npy(TARGETS[:-4], "<f4", (40, 3)), "targets.npy holds float32 .* in 476 bytes"),
        (npy(TARGETS, "<f4", (40, 3)), "holds data with hash"),
        (None, "holds other arrays"),
    ],
    ids=range(12),
)
def test_hostile_members(stored, member, message):
    rewrite(stored, targets=member, **({"more": bytes(600)} if member is None else {}))
    refused_and_kept(stored, message)


@pytest.mark.parametrize("kind", ["bomb", "sparse"])
def test_memory_is_not_taken_before_the_file_is_known_to_be_right(stored, kind):
    if kind == "bomb":
        n_bytes = sum(np.dtype(dtype).itemsize * np.prod(shape) for dtype, shape in layout_of(SPEC).values())
        rewrite(stored, zipfile.ZIP_DEFLATED, prefix=bytes(n_bytes), targets=bytes(200_000_000), sequences=b"",
                marker_indices=b"")
        message = "bytes, this dataset takes|is compressed"
    else:
        os.truncate(stored, 1 << 40)
        message = "1099511627776 bytes, this dataset takes"
    tracemalloc.start()
    try:
        with pytest.raises(QablateError, match=message):
            load_dataset(stored, SPEC)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", [".npz", ".json"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_things_that_are_no_files(stored, ending, make):
    stored.with_suffix(ending).unlink()
    make(stored.with_suffix(ending))
    assert "not a regular file" in refused(stored)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=IN_BYTES)
def test_no_damage_is_read_as_another_dataset(stored, changes):
    """The very same arrays, or one clear error."""
    damaged, good = stored.with_name("damaged.npz"), generate(SPEC)
    damaged.with_suffix(".json").write_bytes(stored.with_suffix(".json").read_bytes())
    damaged.write_bytes(mutated(stored.read_bytes(), changes))
    try:
        loaded = load_dataset(damaged, SPEC)
    except QablateError:
        return
    assert all(np.array_equal(loaded.arrays[name], array) for name, array in good.arrays.items())


MAKE = """
import os, signal, sys
from pathlib import Path
from qablate.study import DatasetSpec
from qablate.tasks import make_dataset, store
spec = DatasetSpec("adding_problem", 500, 2026)
{}
make_dataset(spec, Path(sys.argv[1]))
"""
KILLED_IN_ARRAYS = """
def killed(file, dataset):
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
store._write_arrays = killed
"""
KILLED_IN_SIDECAR = """
import qablate.files
qablate.files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
"""


def start(path, before=""):
    return subprocess.Popen([sys.executable, "-c", MAKE.format(before), str(path)], stderr=subprocess.PIPE)


def test_two_processes_at_once_and_a_rerun_make_the_same_dataset(tmp_path):
    spec, path = DatasetSpec("adding_problem", 500, 2026), tmp_path / "d.npz"
    writers = [start(path), start(path)]
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.json", "d.npz"]
    assert make_dataset(spec, path).sha256 == load_dataset(path, spec).sha256


@pytest.mark.parametrize(("before", "left"), [(KILLED_IN_ARRAYS, {".json"}), (KILLED_IN_SIDECAR, set())],
                         ids=["arrays", "sidecar"])
def test_a_killed_writer_leaves_no_half_dataset(tmp_path, before, left):
    spec, path = DatasetSpec("adding_problem", 500, 2026), tmp_path / "d.npz"
    writer = start(path, before)
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert {file.suffix for file in tmp_path.iterdir()} == {*left, ".tmp"}
    make_dataset(spec, path)
    assert load_dataset(path, spec).sha256 == generate(spec).sha256
