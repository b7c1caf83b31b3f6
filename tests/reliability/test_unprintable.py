"""What cannot be printed fails no training and loses no result; other commands end with one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Signalled, Workplace, copy_of


def typed(place: Workplace, *command: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen([sys.executable, "-m", "qablate.cli", *(command or place.command())], cwd=place.folder,
                            env=environment, **options)


def test_an_output_that_knows_ascii_alone_fails_nothing(place, whole):
    process = typed(place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"Test Results" in out
    assert place.files() == whole.files()


def test_a_closed_pipe_or_output_costs_the_lines_and_not_the_training(fresh, whole, tmp_path):
    piped, mute = (copy_of(fresh, tmp_path / name) for name in ("piped", "mute"))
    process = typed(piped, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.wait(120), process.stderr.read()) == (0, b"")
    assert typed(mute, preexec_fn=lambda: (os.close(1), os.close(2))).wait(120) == 0
    assert piped.files() == mute.files() == whole.files()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_under_the_log_fails_no_training(place, whole):
    with open("/dev/full", "w") as full:
        assert typed(place, stdout=full, stderr=full).wait(120) == 0
        assert place.files() == whole.files()
        assert typed(place, "status", "--no-queue", stdout=full, stderr=full).wait(120) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_result_is_no_failure(place, whole, number):
    assert place.run(Signalled('"result"', number)) == 0
    assert place.files() == whole.files()


def test_a_missing_dataset_is_made_and_one_that_cannot_be_is_one_line(place, whole):
    dataset = next(place.folder.rglob("*.npz"))
    content = dataset.read_bytes()
    folder = place.folder / "results/datasets"
    folder.rename(place.folder / "away")
    folder.write_text("a file where a folder belongs")
    assert place.run() == 1
    (line,) = place.messages()
    assert "cannot write" in line
    assert not place.output.exists()
    folder.unlink()
    first, second = place.start(), place.start()
    for process in (first, second):
        process.join(120)
        assert process.exitcode == 0, place.log.read_text()
    assert "missing, made now" in place.log.read_text()
    assert dataset.read_bytes() == content
    assert place.files() == whole.files()


def test_a_checkout_of_another_user_is_recorded_or_said(place):
    code = "from qablate.provenance import provenance_of_process as p; print(p()['git_commit'])"
    environment = {**os.environ, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "HOME": str(place.folder)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    recorded = len(run.stdout.strip()) == 40
    in_a_checkout = (Path(__file__).parents[2] / ".git").exists()
    assert recorded or not in_a_checkout or "is not recorded: " in run.stderr
    assert run.stderr.count("\n") <= 1
