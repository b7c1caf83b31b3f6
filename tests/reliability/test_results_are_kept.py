"""Whatever has a result's name is a valid result and stays, or is kept before another takes the name."""

import hashlib
import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from harness import KillAtStep, Workplace, copy_of

from qablate import files
from qablate.errors import MachineError
from qablate.files import keep_copy, put_in_place, supersede
from qablate.records import companion


def stale(place: Workplace) -> bytes:
    """The cell's result, made with another learning rate."""
    record = json.loads(place.output.read_text())
    record["hyperparameters"]["learning_rate"] = 0.5
    return json.dumps(record).encode()


def name_of(place: Workplace, content: bytes) -> str:
    return f"{place.output.stem}.{hashlib.sha256(content).hexdigest()[:16]}.json"


def kept(place: Workplace) -> dict[str, bytes]:
    folder = place.study.superseded
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


@pytest.fixture
def place(place) -> Workplace:
    place.output.parent.mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize("touched", [0, 4e9])
def test_a_valid_result_is_left_alone(whole, tmp_path, touched):
    place = copy_of(whole, tmp_path / "cell")
    os.utime(place.output, (touched, touched))
    before = place.output.stat()
    assert place.run() == 0
    after = place.output.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino, before.st_mtime_ns, before.st_ctime_ns)
    assert "already there, nothing to do" in place.log.read_text()
    assert not kept(place)


@pytest.mark.parametrize(("content", "share"), [
    ("stale", None), (b"", None), (b"{", None), (b"\xff" * 50, None), (b"[]", None), ("stale", 0), ("stale", 0.5),
], ids=str)
def test_what_is_no_valid_result_is_kept_by_its_content(place, whole, content, share):
    """A part of a copy, as a kill left it, never passes for the copy."""
    content = stale(whole) if content == "stale" else content
    place.output.write_bytes(content)
    if share is not None:
        place.study.superseded.mkdir()
        (place.study.superseded / name_of(place, content)).write_bytes(content[: int(share * len(content))])
    assert place.run() == 0
    assert place.files() == whole.files()
    assert kept(place) == {name_of(place, content): content}
    assert place.leftovers() == []


def test_weights_and_predictions_of_a_result_that_no_longer_stands_are_kept_with_it(whole, tmp_path):
    place = copy_of(whole, tmp_path / "cell")
    before = stale(place)
    place.output.write_bytes(before)
    others = {kind: place.output.with_name(place.output.name.replace("results.json", kind))
              for kind in ("model.pt", "predictions.npz")}
    for kind, path in others.items():
        path.write_bytes(kind.encode())
    assert place.run() == 0
    assert place.files() == whole.files()
    assert sorted(kept(place).values()) == sorted([before, *(kind.encode() for kind in others)])
    assert {Path(name).suffix for name in kept(place)} == {".json", ".pt", ".npz"}


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("precious")


@pytest.mark.parametrize("make", [a_folder, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_moved_away(place, whole, make):
    make(place.output)
    assert place.run() == 0
    assert place.files() == whole.files()
    (moved,) = place.study.superseded.iterdir()
    assert make is not a_folder or (moved / "inside").read_text() == "precious"


def test_a_link_to_a_stale_result_is_kept_as_a_file(place, whole, tmp_path):
    original = tmp_path / "elsewhere.json"
    original.write_bytes(stale(whole))
    place.output.symlink_to(original)
    assert place.run() == 0
    assert original.read_bytes() == stale(whole)
    assert kept(place) == {name_of(place, stale(whole)): stale(whole)}
    assert not place.output.is_symlink()


@pytest.mark.parametrize("part", [8, pytest.param(1, marks=pytest.mark.full)])
def test_killed_at_any_change_of_a_file_nothing_is_lost(place, whole, tmp_path, part):
    place.output.write_bytes(stale(whole))
    counted = copy_of(place, tmp_path / "counted")
    assert counted.run(KillAtStep(0)) == 0
    for step in range(int((counted.folder / "steps").read_text()), 0, -part):
        killed = copy_of(place, tmp_path / str(step))
        assert killed.run(KillAtStep(step)) == -signal.SIGKILL
        there = [*kept(killed).values(), *([killed.output.read_bytes()] if killed.output.exists() else [])]
        assert stale(whole) in there, step
        assert killed.run() == 0
        assert killed.files() == whole.files()
        assert kept(killed) == {name_of(place, stale(whole)): stale(whole)}, step
        assert killed.leftovers() == [], step


class Comes:
    """Puts a file at the result's name at a moment: before the test pass, or between its look and its naming."""

    def __init__(self, content: bytes, moment: str) -> None:
        self.content, self.moment = content, moment

    def __call__(self) -> None:
        from qablate import files
        from qablate.training import cell

        owner = cell if self.moment == "test_outputs" else files
        function, came = getattr(owner, self.moment), []

        def late(*arguments):
            if not came:
                came.append(True)
                (Path("results/synthetic_benchmarks") / RESULT).write_bytes(self.content)
            return function(*arguments)

        setattr(owner, self.moment, late)


RESULT = "synthetic_1b_adding_problem_L16_seed2024_results.json"


@pytest.mark.parametrize("moment", ["test_outputs", "_name_new"])
@pytest.mark.parametrize("valid", [True, False])
def test_a_valid_result_that_comes_meanwhile_stays_and_both_are_kept(place, whole, valid, moment):
    content = whole.output.read_bytes() + b"\n" if valid else stale(whole)
    assert place.run(Comes(content, moment)) == 0
    ((name, other),) = kept(place).items()
    assert name == name_of(place, other) and place.leftovers() == []
    if valid:
        assert place.output.read_bytes() == content
        assert json.loads(other)["test_mse"] == json.loads(content)["test_mse"]
        assert "a valid result came while this one was trained" in place.log.read_text()
    else:
        assert (place.files(), other) == (whole.files(), content)


def test_weights_and_predictions_of_a_result_that_comes_meanwhile_stay(place, whole):
    theirs = [companion(place.output, ending) for ending in ("model.pt", "predictions.npz")]
    for path in theirs:
        path.write_text("theirs")
    assert place.run(Comes(whole.output.read_bytes() + b"\n", "test_outputs")) == 0
    assert [path.read_text() for path in theirs] == ["theirs"] * 2


@pytest.mark.parametrize("ending", ["model.pt", "predictions.npz"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, Path.touch])
def test_what_lies_where_weights_and_predictions_belong_is_moved(place, whole, ending, make):
    make(companion(place.output, ending))
    assert place.run() == 0
    (moved,) = place.study.superseded.iterdir()
    assert moved.suffix == Path(ending).suffix
    assert place.files() == whole.files()


def test_a_file_that_may_not_be_read_is_moved_all_the_same(tmp_path, monkeypatch):
    """As weights that a colleague left with mode 600; the tests may run as root, who may read everything."""

    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "sha256_of", refused)
    path, folder = tmp_path / "a_model.pt", tmp_path / "superseded"
    path.write_bytes(b"theirs")
    assert supersede(path, folder).read_bytes() == b"theirs" and not path.exists()
    path.write_bytes(b"theirs too")
    assert supersede(path, folder).read_bytes() == b"theirs too" and len(list(folder.iterdir())) == 2


def test_what_changes_while_it_is_kept_never_has_the_name_of_another_content(tmp_path, monkeypatch):
    path, folder, rename = tmp_path / "a.json", tmp_path / "superseded", Path.rename

    def late(self, target):
        if self == path:
            path.write_bytes(b"new")
        return rename(self, target)

    path.write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(MachineError, match="changed while it was copied"):
        patch.setattr("shutil.copyfileobj", lambda file, copy: copy.write(b"ol"))
        keep_copy(path, folder)
    monkeypatch.setattr(Path, "rename", late)
    assert supersede(path, folder).name == f"a.{hashlib.sha256(b'new').hexdigest()[:16]}.json"


def test_the_copy_that_cannot_be_made_is_one_line_before_training(place, whole):
    place.output.write_bytes(stale(whole))
    place.study.superseded.write_text("a file where a folder belongs")
    assert place.run() == 1
    (line,) = place.messages()
    assert "cannot be kept in" in line or "cannot write" in line
    assert place.output.read_bytes() == stale(whole)
    assert "Epoch" not in place.log.read_text()


def test_without_hard_links_the_name_is_taken_all_the_same(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "chmod", refused)
    path, folder = tmp_path / "a.json", tmp_path / "superseded"
    assert put_in_place(path, b"new", folder, lambda: False) == path
    assert put_in_place(path, b"newer", folder, lambda: True).parent == folder
    assert put_in_place(path, b"newest", folder, lambda: False) == path
    assert path.read_bytes() == b"newest"
    assert sorted(file.read_bytes() for file in folder.iterdir()) == [b"new", b"newer"]


@pytest.mark.parametrize("write", [
    files.write_atomic, partial(put_in_place, folder=Path("kept"), is_valid=lambda: False)])
def test_bytes_are_on_the_disk_before_they_have_a_name_and_the_name_after(tmp_path, monkeypatch, write):
    done = []

    def noted(name, function):
        return lambda *given: done.append(name or Path(os.readlink(f"/proc/self/fd/{given[0]}"))) or function(*given)

    for name, told in (("replace", "named"), ("link", "named"), ("fsync", "")):
        monkeypatch.setattr(os, name, noted(told, getattr(os, name)))
    write(tmp_path / "a", b"content")
    assert done[0].suffix == ".tmp" and done[1:] == ["named", tmp_path]
