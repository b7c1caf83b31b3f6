"""What the profiles ask Slurm for, read from the calls of sbatch; no Slurm is needed."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from place import ACCOUNT, Place
from working_folder import ROOT, wait_for

from qablate.catalog import MODELS
from qablate.config import merge, read_yaml
from qablate.hours import COLUMNS
from qablate.jobs import Jobs, budget
from qablate.study import Study

DEVICE = "NVIDIA H100 80GB HBM3"    # the one that the profiles name
# seconds an epoch at 5,000 items; the small study has 4 epochs of 200 items
COSTS = f"""{','.join(COLUMNS)}
{DEVICE},1b,adding_problem,16,4500,,made up
{DEVICE},2d,adding_problem,16,90000,,made up
{DEVICE},3b,adding_problem,16,1,,made up
"""
MEASURED = """
import resource, subprocess, sys
code, used = subprocess.call(sys.argv[1:]), resource.getrusage(resource.RUSAGE_CHILDREN)
print(round(used.ru_utime + used.ru_stime), used.ru_maxrss, flush=True)
sys.exit(code)
"""
"""Seconds and KiB of a command; a child of the tests themselves would count their memory as its own."""
SBATCH = f"""#!{sys.executable}
import json, os, sys
with open("requests", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit("this stand-in takes no jobs")
"""
AT_ONCE = ("--slurm-init-seconds-before-status-checks", "1", "--max-jobs-per-second", "50")
ANSWERS = {"sinfo": "echo 'gpu*'", "sacctmgr": "echo m0000_g", "scontrol": "echo 'MinJobAge = 300 sec'", "squeue": ":"}


@pytest.fixture
def place(new_place: Callable[..., Place]) -> Place:
    place = new_place()
    (place.folder / "workflow/costs.csv").write_text(COSTS)
    place.stand_in()
    place.program("sbatch", SBATCH)
    for name, answer in ANSWERS.items():
        place.program(name, f"#!/bin/sh\n{answer}\n")
    return place


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_while_slurm_is_silent_ends(place: Place, number: signal.Signals) -> None:
    place.environment |= ACCOUNT
    place.program("sbatch", "#!/bin/sh\necho 'sbatch: error: Socket timed out on send/recv operation' >&2\nexit 1\n")
    run = place.start("--profile", "profiles/nersc", *AT_ONCE)
    wait_for(lambda: "asking again until Slurm answers" in place.printed, "an outage")
    os.kill(run.pid, number)
    assert run.wait(200) != 0 and "Traceback" not in place.printed, place.printed


def requests(place: Place) -> dict[str, list[list[str]]]:
    """The calls of sbatch, by model, without what differs from run to run."""
    found: dict[str, list[list[str]]] = {}
    for line in (place.folder / "requests").read_text().splitlines():
        words = json.loads(line)
        if "--test-only" in words:
            continue
        model = words[words.index("--comment") + 1].removeprefix("rule_train_wildcards_").partition("_")[0]
        found.setdefault(model, []).append([word for word in words if not word.startswith("--wrap=")])
    return found


def expected(place: Place, model: str, minutes: int) -> list[str]:
    wildcards = f"{model}_adding_problem_16_1"
    return [
        "--parsable", "--job-name", "syn_UUID",
        "--output", f"{place.folder}/results/logs/slurm/rule_train/{wildcards}/%j.log",
        "--export=ALL", "--comment", f"rule_train_wildcards_{wildcards}",
        "-A", "m0000_g", "-p", "gpu", "-t", str(minutes), "-C", "gpu&hbm80g", "--qos=shared", "--mem", "55000",
        "--nodes=1", "--requeue", "--cpus-per-task=32", "-D", str(place.folder), "--gpus=1",
    ]


def test_each_kind_of_cell_asks_for_what_it_needs(place: Place) -> None:
    place.replace("config.yaml", "seeds:\n- 1\n- 2\n", "seeds:\n- 1\n")
    run = place.run("--profile", "profiles/nersc", "--retries", "1", *AT_ONCE, PWD=str(place.folder), **ACCOUNT)
    assert run.code == 1, run.text
    assert "no costs known, jobs ask for the longest run time: 3a\n" in run.text
    asked = requests(place)
    for calls in asked.values():
        for words in calls:
            words[2] = re.sub(r"[0-9a-f-]{36}$", "UUID", words[2])
    minutes = {
        "1b": [70, 140],      # 5 x 4 x 180 s = 60 minutes, and 10 for the start; twice that when tried again
        "2d": [1210, 1440],   # never more than the longest
        "3a": [1440, 1440],   # nothing known: the longest
        "3b": [15, 30],
    }
    assert asked == {model: [expected(place, model, m) for m in both] for model, both in minutes.items()}
    commands = place.run("-n", "-p", "--profile", "profiles/nersc", **ACCOUNT).text
    ends = dict(re.findall(r"qablate train .* --model (\w+) .* --max-seconds (\d+) ", commands))
    assert ends == {model: f"{budget(first):g}" for model, (first, _) in minutes.items()}


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, "slurm_account: SBATCH_ACCOUNT is not set; export SBATCH_ACCOUNT=mNNNN_g"),
        ({"SBATCH_ACCOUNT": "m0000_g"}, "constraint: SBATCH_CONSTRAINT is not set; export SBATCH_CONSTRAINT=gpu"),
        ({**ACCOUNT, "SBATCH_ACCOUNT": ""}, "slurm_account: SBATCH_ACCOUNT is not set"),
    ],
)
def test_account_and_constraint_are_asked_for(place: Place, environment: dict[str, str], missing: str) -> None:
    run = place.run("--profile", "profiles/nersc", **environment)
    assert run.code != 0
    (line,) = [line for line in run.text.splitlines() if "SBATCH_" in line]
    assert missing in line
    assert "Traceback" not in run.text
    assert not (place.folder / "requests").exists()


@pytest.mark.parametrize(("account", "error", "words"), [
    ("m0000_g", "sbatch: error: Batch job submission failed: Invalid qos specification",
     "Batch job submission failed: Invalid qos specification"),
    ("m0000", "", "The given account m0000 appears to be invalid. Available accounts: m0000_g"),
])
def test_what_slurm_refuses_is_one_line(place: Place, account: str, error: str, words: str) -> None:
    place.program("sbatch", f"#!/bin/sh\necho 1 >> requests\necho '{error}' >&2\nexit 1\n")
    run = place.run("--profile", "profiles/nersc", *AT_ONCE, **{**ACCOUNT, "SBATCH_ACCOUNT": account})
    assert run.code == 1, run.text
    assert f"Slurm refuses these jobs: {words}" in run.text
    assert "Traceback" not in run.text
    assert "sbatch call" not in run.text
    assert not (place.folder / "requests").exists() or (place.folder / "requests").read_text() == "1\n"
    assert not list(place.folder.glob(".snakemake/locks/*"))


def test_a_whole_node_needs_an_allocation(place: Place) -> None:
    place.program("srun", "#!/bin/sh\necho 1 >> requests\nexit 1\n")
    run = place.run("--profile", "profiles/nersc-node")
    assert run.code == 1, run.text
    assert run.text.count("srun needs an allocation") == 1
    assert "Traceback" not in run.text
    assert not (place.folder / "requests").exists()


@pytest.mark.parametrize(("option", "words"), [
    (("--config", "legacy_metric=true"),
     "system, run.device, jobs.cost_device, jobs.margin, jobs.max_minutes: lost, since --config on the"),
    (("--set-resources", "train:runtime=120"),
     "slurm_account: not set, and jobs.max_minutes: 1440 asks for jobs of Slurm; --set-resources on the command line"),
])
def test_a_command_line_that_replaces_what_the_profile_sets_is_refused(place: Place, option: tuple[str, str],
                                                                       words: str) -> None:
    run = place.run("--profile", "profiles/nersc", *option, **ACCOUNT)
    assert run.code != 0 and words in run.text


def test_every_model_of_the_published_study_has_a_run_time_at_nersc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    profile = read_yaml(Path("profiles/nersc/config.yaml"))["config"]
    jobs = Jobs(Study(merge(read_yaml(Path("config.yaml")), profile)))
    assert jobs.without_costs() == []
    asked = {cell: jobs.minutes(cell, 1) for cell in jobs.study.cells}
    assert asked[jobs.study.cell("1b", "adding_problem", 100, 2024)] == 15      # 0.15 s an epoch, 47 of them
    assert asked[jobs.study.cell("3a", "adding_problem", 1000, 2024)] == 30     # 1.8 s, 100 of them
    assert max(asked.values()) == 30


@pytest.mark.full
@pytest.mark.parametrize("profile", [(), ("--profile", "profiles/nersc")], ids=["plain", "nersc"])
def test_dry_run_of_40000_cells(new_place: Callable[..., Place], profile: tuple[str, ...]) -> None:
    place = new_place(models=list(MODELS)[:10], seeds=list(range(4000)))
    run = place.start(words=[sys.executable, "-c", MEASURED, *place.command("-n", *profile)], **ACCOUNT)
    assert run.wait() == 0, place.printed[-2000:]
    assert re.search(r"^train +40000$", place.printed, re.M)
    *_, seconds, kib = place.printed.split()
    print(f"40,000 cells: {seconds} s of processor, {int(kib) * 1024 / 1e9:.2f} GB")
    assert int(kib) < 1e6
