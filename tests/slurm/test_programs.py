"""What stands before Slurm's programs, with stand-ins for these; no Slurm is needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qablate import slurm
from qablate.errors import QablateError
from qablate.jobs import allowed_seconds, budget, check_launcher

OUTAGES = [
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    "sbatch: error: Batch job submission failed: Transport endpoint is not connected",
    "slurm_load_partitions: Unable to contact slurm controller (connect failure)",
    "sacctmgr: error: Problem talking to the database: Connection refused",
]
REFUSALS = [
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    "sbatch: error: Batch job submission failed: Invalid qos specification",
    "sbatch: error: Batch job submission failed: Invalid feature specification",
    "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)",
    "sbatch: error: Batch job submission failed: User's group not permitted to use this partition",
]
JOB = ("--parsable", "--job-name", "syn_run", "--comment", "rule_train_wildcards_x", "--wrap=true")
TOOLS = ("bash", "sh", "wc", "date", "tail", "flock", "mkdir", "id", "which")


class Desk:
    """A folder where programs stand before stand-ins of Slurm's, called by a process that passes for Snakemake."""

    def __init__(self, folder: Path, snakemake: "subprocess.Popen[bytes]") -> None:
        self.folder, self.snakemake, self.real = folder / "slurm", snakemake, folder / "real"
        self.real.mkdir()
        for name in TOOLS:    # and nothing of a Slurm that may be installed
            (self.real / name).symlink_to(shutil.which(name) or name)
        os.environ["PATH"] = str(self.real)

    def program(self, name: str, text: str) -> None:
        """Make a stand-in that notes its calls."""
        (self.real / name).write_text(f'#!/bin/bash\necho "$*" >> {self.real}/{name}.calls\n{text}\n')
        (self.real / name).chmod(0o755)

    def fails(self, name: str, times: int, error: str, then: str) -> None:
        """Make a stand-in that fails so many times."""
        calls = f"$(wc -l < {self.real}/{name}.calls)"
        self.program(name, f"[ {calls} -gt {times} ] || {{ echo \"{error}\" >&2; exit 1; }}\n{then}")

    def calls(self, name: str) -> int:
        path = self.real / f"{name}.calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def start(self, running: dict[str, str] | None = None) -> None:
        slurm.stand_before(running or {}, self.folder)
        self.own = self.folder / str(os.getpid())
        os.environ[slurm.SNAKEMAKE] = str(self.snakemake.pid)

    def call(self, name: str, *words: str) -> int:
        return slurm.main([str(self.own / "bin" / name), *words])

    @property
    def screen(self) -> str:
        """What was printed where Snakemake prints."""
        return (self.folder.parent / "screen").read_text()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("PATH", slurm.SNAKEMAKE):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(slurm, "PAUSES_S", (0.01,))
    monkeypatch.setattr(slurm.signal, "signal", lambda *_: None)
    with (tmp_path / "screen").open("ab") as screen, subprocess.Popen(
            [sys.executable, "-c", "input()", "snakemake"], stdin=subprocess.PIPE, stderr=screen) as snakemake:
        desk = Desk(tmp_path, snakemake)
        desk.program("squeue", "exit 0")
        yield desk
        snakemake.kill()


@pytest.mark.parametrize(("program", "error"), [
    *(("sbatch", error) for error in OUTAGES),
    *((program, OUTAGES[-1]) for program in ("sinfo", "sacctmgr", "sshare")),    # asked before a submission
])
def test_without_an_answer_slurm_is_asked_again(desk: Desk, capfd: pytest.CaptureFixture[str], program: str,
                                                error: str) -> None:
    desk.fails(program, 4, error, "echo 17")
    desk.start()
    assert desk.call(program, *JOB) == 0
    assert (capfd.readouterr(), desk.calls(program)) == (("17\n", ""), 5)
    assert desk.screen.count("\n") == 1 and error in desk.screen
    desk.fails("sbatch", 9, error, "")
    assert slurm.refusal("17", []) == ""    # the account that this sacctmgr knows


def test_a_killed_run_of_the_same_pid_left_its_folder(desk: Desk) -> None:
    left = desk.folder / str(os.getpid()) / "stop"
    left.parent.mkdir(parents=True)
    left.touch()
    desk.start()
    assert not left.exists() and (desk.own / "bin/squeue").exists()


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_is_passed_on_at_once(desk: Desk, capfd: pytest.CaptureFixture[str], error: str) -> None:
    desk.fails("sbatch", 9, error, "echo 17")
    desk.start()
    assert desk.call("sbatch", *JOB) == 1
    assert desk.calls("sbatch") == 1
    assert capfd.readouterr().err == f"{error}\n"
    assert slurm.refusal("m0000_g", ["--time", "5"]) == error.removeprefix("sbatch: error: ")


def test_a_job_taken_without_an_answer_is_not_submitted_again(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.fails("sbatch", 9, OUTAGES[0], "echo 18")
    desk.program("squeue", "echo '16|syn_other|rule_train_wildcards_x'; echo '17|syn_run|rule_train_wildcards_x'")
    desk.start()
    assert desk.call("sbatch", *JOB) == 0
    assert (capfd.readouterr().out, desk.calls("sbatch")) == ("17\n", 1)


@pytest.mark.parametrize("text", ["17", "17;cluster", "  welcome\n17\n", "Submitted batch job 17"])
def test_the_number_of_a_job_is_found(desk: Desk, capfd: pytest.CaptureFixture[str], text: str) -> None:
    desk.program("sbatch", f"echo '{text}'; echo 'sbatch: lua: submission failed to amuse' >&2")
    desk.start()
    assert desk.call("sbatch", *JOB) == 0
    assert capfd.readouterr() == ("17\n", "")


def test_a_squeue_that_hangs_is_no_answer(desk: Desk, capfd: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.3)
    desk.program("sbatch", "echo 17")
    desk.program("squeue", "exec tail -f /dev/null")
    desk.start()
    desk.call("sbatch", *JOB)
    assert desk.call("squeue", "--name", "syn_run") == 0
    assert capfd.readouterr().out == "17\n17|NO_ANSWER\n"


def test_folders_of_the_dead_go_and_those_of_the_living_stay(desk: Desk) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    for pid in (dead.pid, desk.snakemake.pid):
        (desk.folder / str(pid)).mkdir(parents=True)
    desk.start()
    assert {path.name for path in desk.folder.iterdir()} == {str(os.getpid()), str(desk.snakemake.pid)}


@pytest.mark.parametrize(("ends", "calls"), [("before", 0), ("in an outage", 1), ("killed", 1)])
def test_without_snakemake_nothing_is_submitted(desk: Desk, ends: str, calls: int) -> None:
    desk.fails("sbatch", 1, OUTAGES[0], "echo 17")
    desk.start()
    if ends == "before":
        (desk.own / "stop").touch()
    elif ends == "killed":
        desk.snakemake.kill()
        desk.snakemake.wait()
    else:
        desk.program("sbatch", f": > {desk.own}/stop; echo 'Socket timed out' >&2; exit 1")
    assert (desk.call("sbatch", *JOB), desk.calls("sbatch")) == (1, calls)


def test_a_job_of_an_earlier_start_is_taken_once(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.program("sbatch", "echo 18")
    desk.start({"rule_train_wildcards_x": "17"})
    assert [desk.call("sbatch", *JOB) for _ in range(2)] == [0, 0]
    assert (capfd.readouterr().out, desk.calls("sbatch")) == ("17\n18\n", 1)
    desk.program("squeue", "echo '17|COMPLETED'; echo '18|RUNNING'; echo '19|RUNNING'")
    assert desk.call("squeue", "--states=all", "--name", "syn_run") == 0
    assert capfd.readouterr().out == "17|COMPLETED\n18|RUNNING\n"


@pytest.mark.parametrize("program", ["squeue", "sacct"])
@pytest.mark.parametrize(("answer", "states"), [
    ("echo '17|CANCELLED'; echo '18|RUNNING'", ["CANCELLED", "RUNNING"]),
    ("echo '18|RUNNING'", ["UNKNOWN", "RUNNING"]),    # forgotten: the executor looks whether the result is there
    ("exit 0", ["UNKNOWN", "UNKNOWN"]),
    ("echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1", ["NO_ANSWER", "NO_ANSWER"]),
])
def test_every_job_of_a_run_has_a_state(desk: Desk, capfd: pytest.CaptureFixture[str], program: str, answer: str,
                                        states: list[str]) -> None:
    desk.program("sacct", "echo 'must not be asked'")    # version 2.8 takes its `CANCELLED by 0` for a running job
    desk.program("sbatch", f"echo $((16 + $(wc -l < {desk.real}/sbatch.calls)))")
    desk.start()
    for _ in range(2):
        desk.call("sbatch", *JOB)
    desk.program("squeue", answer)
    capfd.readouterr()
    assert desk.call(program, "--name", "syn_run") == 0
    assert capfd.readouterr().out.split() == [f"17|{states[0]}", f"18|{states[1]}"]


def test_the_programs_run_from_path(desk: Desk) -> None:
    """As the executor calls them: by name, through a shell."""
    desk.program("sbatch", "echo 17")
    desk.start()
    for command, answer in (("sbatch --job-name syn_run --wrap=true", "17"), ("squeue --name syn_run", "17|UNKNOWN"),
                            ("squeue --version", "")):
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert (done.stdout.strip(), done.stderr) == (answer, "")
    assert not (desk.own / "bin/sacct").exists()    # the executor asks whether there is one


@pytest.mark.parametrize(("job", "answer", "words"), [
    ("", "exit 0", "there is none here"),
    ("17", "exit 0", "job 17 is over"),
    ("17", "echo PENDING", "job 17 is pending"),
    ("17", "echo 'squeue: error: Invalid job id specified' >&2; exit 1", "job 17 is over"),
    ("17", "exit 1", "squeue does not tell the state of job 17"),
    ("17", "echo RUNNING", None),
])
def test_srun_needs_an_allocation(desk: Desk, job: str, answer: str, words: str | None) -> None:
    desk.program("squeue", answer)
    check_launcher("", {})
    if words is None:
        check_launcher("srun --exact -n1", {"SLURM_JOB_ID": job})
        return
    with pytest.raises(QablateError, match=words):
        check_launcher("srun --exact -n1", {"SLURM_JOB_ID": job})


@pytest.mark.parametrize(("asked", "end", "seconds"), [
    ((None,), None, None),
    ((50, 70, None), None, 50),
    ((None,), "1500", 440),    # a minute is left for Snakemake
    ((300,), "1500", 300),
    ((300,), "900", -160),
    *(((None,), end, None) for end in ("", "x", "-5", "1e3", "9" * 5000, "100")),    # of another job, long over
], ids=lambda value: str(value)[:20])
def test_a_cell_stops_before_its_job_does(monkeypatch: pytest.MonkeyPatch, asked: tuple[float | None, ...],
                                          end: str | None, seconds: float | None) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert allowed_seconds(*asked, environment={} if end is None else {"SLURM_JOB_END_TIME": end}) == seconds


def test_a_fifth_of_a_job_at_most_three_minutes_is_for_starting_its_cell() -> None:
    assert (budget(1), budget(1440)) == (48, 86400 - 180)


IN_A_JOB = {"SLURM_JOB_ID": "17"}
TELLS = "[ $SLURM_TIME_FORMAT = standard ] && echo 2033-05-18T03:33:20"


@pytest.mark.parametrize(("answer", "environment", "words"), [
    ("exit 0", {}, "runs in an allocation: sbatch"),
    ("exit 0", IN_A_JOB, "squeue does not tell when job 17 ends"),
    ("echo 'squeue: error: no' >&2; exit 1", IN_A_JOB, "when job 17 ends: squeue: error: no"),
    ("echo N/A", IN_A_JOB, "when job 17 ends: N/A"),
    *((TELLS, {**IN_A_JOB, **odd}, 2_000_000_000) for odd in (
        {}, {"SLURM_JOB_END_TIME": "1000"}, {"SLURM_JOB_END_TIME": "x"}, {"SLURM_TIME_FORMAT": "relative"})),
    (TELLS, {**IN_A_JOB, "SLURM_JOB_END_TIME": "4000000000"}, 4_000_000_000),
])
def test_the_script_of_a_whole_node_knows_its_end_or_says_why_not(desk: Desk, answer: str, environment: dict[str, str],
                                                                  words: str | int) -> None:
    for name, text in (("squeue", answer), ("snakemake", "echo ends $SLURM_JOB_END_TIME"), ("sleep", "exit 0")):
        desk.program(name, text)
    script = Path(__file__).parents[2] / "profiles/nersc-node/job.sh"
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, cwd=desk.folder.parent,
                          env={"PATH": os.environ["PATH"], "TZ": "UTC", **environment})
    if isinstance(words, int):
        assert done.stdout == f"ends {words}\n"
        return
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
