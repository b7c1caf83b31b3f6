"""A disk that fills up in the middle of a write: one clear line, the old state intact, and the next run ends equal."""

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from factories import write_results
from harness import FullDisk, Workplace, copy_of


def said(place: Workplace, reason: str) -> str:
    """The one line that was said, after the failure was logged as the last event."""
    (line,) = place.messages()
    assert line.endswith(reason)
    assert place.events()[-1] == {"event": "fail", "reason": line.removeprefix("qablate: ")}
    assert "Traceback" not in place.log.read_text()
    return line


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "log"}


@pytest.mark.parametrize(("state", "kind"), [
    *(("place", kind) for kind in ("checkpoint_", "model.pt", "predictions.npz", "results.json")),
    ("halfway", "checkpoint_"),    # the two checkpoints that are there stay
])
def test_training(request, whole, state, kind):
    place = request.getfixturevalue(state)
    for temporary in place.folder.rglob("*.tmp"):    # of the kill before
        temporary.unlink()
    before = {path: path.read_bytes() for path in place.checkpoints()}
    assert place.run(FullDisk(kind)) == 1
    assert kind in said(place, "cannot write: File too large")
    assert not place.output.exists()
    assert not list(place.folder.rglob("*.tmp"))
    assert not before or {path: path.read_bytes() for path in place.checkpoints()} == before
    assert place.run() == 0
    assert place.files() == whole.files()
    assert place.leftovers() == []


@pytest.mark.parametrize("kind", [".json.", ".npz."], ids=["sidecar", "arrays"])
def test_dataset(place, kind):
    wanted = snapshot(place.folder)
    shutil.rmtree(place.folder / "results")
    command = ["dataset", *place.command()[3:]]
    assert place.run(FullDisk(kind), command) == 1
    (line,) = place.messages()
    assert "cannot write: File too large" in line
    assert not list(place.folder.rglob("*.npz"))
    assert not list(place.folder.rglob("*.tmp"))
    assert place.run(command=command) == 0
    assert snapshot(place.folder) == wanted
    assert "Traceback" not in place.log.read_text()
    assert "Exception ignored" not in place.log.read_text()


LATE = [pytest.param(kind, marks=pytest.mark.full) for kind in (".png.", "report.md")]


@pytest.mark.parametrize("kind", [".csv.", *LATE])
def test_report(place, kind):
    write_results(place.study, [place.cell])
    command, old = ["report", "--partial"], "the report before"
    report = place.folder / "results/progress_report.md"
    report.write_text(old)
    assert place.run(FullDisk(kind, limit=20), command) == 1
    (line,) = place.messages()
    assert line.endswith("cannot write: File too large")
    assert not list(place.folder.rglob("*.tmp"))
    assert report.read_text() == old


@contextmanager
def file_system(folder: Path, options: str):
    """A small file system in memory at `folder`; skips where this process may not mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("stride_kb", [64, pytest.param(8, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_a_file_system_that_is_really_full(fresh, whole, tmp_path, stride_kb):
    """Grown from too small for anything until the cell is done: every run before says what there was no space for."""
    room = tmp_path / "room"
    with file_system(room, "size=96k"):
        place = copy_of(fresh, room / "cell")
        log, kb, failures = tmp_path / "log", 96, []
        (room / "cell/log").symlink_to(log)
        while place.run() != 0:
            failures.append(said(place, "No space left on device"))
            assert not place.output.exists()
            assert not list(place.folder.rglob("*.tmp"))
            log.unlink()
            kb += stride_kb
            subprocess.run(["mount", "-o", f"remount,size={kb}k", str(room)], check=True)
        assert failures
        assert place.files() == whole.files()
        assert place.leftovers() == []
        print(f"{len(failures)} times full, {kb} kB at the end")


def test_a_file_system_that_may_only_be_read(fresh, tmp_path):
    """Said at once, not after hours of training."""
    room = tmp_path / "room"
    with file_system(room, "size=16m"):
        place = copy_of(fresh, room / "cell")
        (room / "cell/log").symlink_to(tmp_path / "log")
        subprocess.run(["mount", "-o", "remount,ro", str(room)], check=True)
        assert place.run() == 1
        said(place, "cannot write: Read-only file system")
        assert "Epoch" not in place.log.read_text()


def test_a_folder_that_cannot_be_made(place):
    place.output.parent.write_text("a file where the folder of the results should be")
    assert place.run() == 1
    said(place, "cannot write: File exists")
