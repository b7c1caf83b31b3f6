"""Real runs of a tiny study with a stand-in for the trainer: what is trained, kept, moved and reported."""

import json
import os
import shlex
import shutil
import subprocess
import time

from factories import record_of, write_results
from working_folder import TINY
from workspace import Workspace

from qablate.results import state_of
from qablate.study import Study

PROFILE = ("--profile", "profiles/local", "--cores", "2")
DONE = "Nothing to be done"


def set_age(workspace: Workspace, seconds: float) -> None:
    """Make everything below results that much older, so that what comes next is newer beyond doubt."""
    then = time.time() - seconds
    for path in [*workspace.folder.glob("results/**/*"), workspace.folder / "results"]:
        os.utime(path, (then, then))


def counted(workspace: Workspace, names: str) -> int:
    """What the users type to see how far their study is."""
    command = f"ls results/synthetic_benchmarks/{names} 2>/dev/null | wc -l"
    return int(subprocess.run(command, shell=True, cwd=workspace.folder, capture_output=True, check=True).stdout)


def test_finished_cells_are_never_trained_again(tiny: Workspace) -> None:
    study, copied = tiny.study, tiny.cell("1b", 1)
    write_results(study, [copied])
    result = study.result_path(copied)
    before = (result.stat().st_ino, result.stat().st_mtime_ns)

    first = tiny.snakemake("--cores", "2")
    assert first.code == 0, first.text
    assert set(first.cells) == set(study.cells) - {copied}  # its dataset was made for 3a all the same
    assert (result.stat().st_ino, result.stat().st_mtime_ns) == before
    assert tiny.report.read_text() == "4 cells"
    assert [counted(tiny, names) for names in ("*.json", "synthetic_1b_*.json", "synthetic_*_adding_problem_*.json",
                                               "synthetic_2d_*.json")] == [4, 2, 4, 0]
    assert "training 1b_" in (tiny.folder / "results/logs/train/1b_adding_problem_L16_seed2.log").read_text()

    assert DONE in tiny.snakemake("--cores", "2").text
    assert DONE in tiny.snakemake("-n", *PROFILE).text

    rules = tiny.folder / "workflow/rules/train.smk"
    rules.write_text(rules.read_text().replace('"""Train one cell', '"""Train (a comment) one cell').replace(
        "qablate train", "qablate  train"))
    for path in tiny.folder.glob("results/datasets/**/*.npz"):
        path.touch()
    assert DONE in tiny.snakemake("-n").text

    set_age(tiny, 100)
    result.unlink()
    for target in ((), ("results/combined_report.md",)):
        again = tiny.snakemake("-n", *target)
        assert set(again.cells) == {copied}, again.text
        assert "report on all cells" in again.text


def test_results_that_no_longer_stand_are_moved_and_trained(tiny: Workspace) -> None:
    study = tiny.study
    stale, broken, failing, sound = (tiny.cell(m, s) for m, s in [("1b", 1), ("3a", 1), ("1b", 2), ("3a", 2)])
    write_results(study, [sound])
    write_results(study, [stale], hyperparameters={"batch_size": 16})
    study.result_path(broken).write_text('{"model_id": "3a", "test_mae": ')
    tiny.report.write_text("an older report")
    set_age(tiny, 100)
    tiny.report.touch()
    old = {path.read_bytes() for path in (study.result_path(stale), study.result_path(broken))}
    untouched = study.result_path(sound).stat().st_mtime_ns

    dry = tiny.snakemake("-n")
    assert dry.cells == {stale: "stale", broken: "unreadable", failing: "missing"}
    assert "study tiny: 4 cells, 1 done, 3 to train (1 missing, 1 stale, 1 unreadable)" in dry.text
    assert "  training.batch_size is 16, the study has 32\n" in dry.text
    assert "truncated: ends before task" in dry.text
    assert not (tiny.folder / "results/superseded").exists()

    real = tiny.snakemake(*PROFILE, "--retries", "0", QABLATE_FAKE_FAIL=failing.name)
    assert real.code != 0
    assert "out of memory, says the stand-in" in real.text
    assert "Traceback" not in real.text
    assert {state_of(study, cell).state for cell in (stale, broken, sound)} == {"done"}
    assert state_of(study, failing).state == "missing"
    assert counted(tiny, "*.json") == 3     # the failed one is none of them, nor are the copies of those replaced
    kept = list((tiny.folder / "results/superseded").iterdir())
    assert {path.read_bytes() for path in kept} == old
    assert study.result_path(sound).stat().st_mtime_ns == untouched
    assert tiny.report.read_text() == "an older report"

    last = tiny.snakemake(*PROFILE, QABLATE_FAKE_STOP=failing.name)  # stops for time once, then resumes
    assert last.code == 0, last.text
    assert set(last.cells) == {failing}
    log = (tiny.folder / f"results/logs/train/{failing.name}.log").read_text()
    assert log.count("training ") == 3  # failed, stopped, resumed: the log was appended to
    assert tiny.report.read_text() == "4 cells"
    assert DONE in tiny.snakemake("-n").text


def test_progress_trains_nothing(tiny: Workspace) -> None:
    study = tiny.study
    write_results(study, [tiny.cell("1b", 1)])
    write_results(study, [tiny.cell("3a", 1)], hyperparameters={"batch_size": 16})
    files = sorted(study.result_folder.iterdir())
    for cells in (2, 2):
        run = tiny.snakemake("progress", "--cores", "1")
        assert run.code == 0, run.text
        assert not run.cells
        progress = tiny.folder / "results/progress_report.md"
        assert progress.read_text() == f"{cells} cells"
        progress.unlink()
    assert not tiny.report.exists()
    assert sorted(study.result_folder.iterdir()) == files
    assert not (tiny.folder / "results/superseded").exists()


def test_the_path_of_an_overlay_may_have_braces_and_is_in_the_command_that_a_failure_prints(tiny: Workspace) -> None:
    overlay = ("--configfile", "my {st}.yaml", "--config", "seeds=[1]", "system=dgx")
    (tiny.folder / overlay[1]).write_text("name: mine\nresults: mine\nmodels: [1b]\n")
    (tiny.folder / "else where").mkdir()
    shutil.copy(tiny.folder / "config.yaml", tiny.folder / "else where")
    for where, folder in (("", []), (f"{tiny.folder}/", ["--directory", f"{tiny.folder}/else where"])):
        failed = tiny.snakemake(*PROFILE, "--retries", "0", *folder, *overlay,
                                QABLATE_FAKE_FAIL=tiny.cell("1b", 1).name)
        typed = shlex.join(["snakemake", "progress", *folder, "--configfile", f"{where}my {{st}}.yaml", *overlay[2:4]])
        assert failed.code and f"What exists: {typed}\n" in failed.text
    assert tiny.snakemake(*PROFILE, *overlay).code == 0
    assert DONE in tiny.snakemake("-n", *overlay).text


def contents(space: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in space.study.result_folder.glob("*.json")}


def test_no_option_trains_a_valid_result(tiny: Workspace) -> None:
    write_results(tiny.study)
    before, result = contents(tiny), f"results/synthetic_benchmarks/{tiny.cell('1b', 1).result_name}"
    for options in (["-F"], ["-R", "train"], ["-f", result], ["--workflow-profile", "profiles/local"], [result]):
        run = tiny.snakemake(*options, "--rerun-triggers", "code", "params", "input", "mtime")
        assert run.code == 0, run.text
        assert not run.cells and contents(tiny) == before
    assert tiny.report.exists()


def test_file_times_decide_nothing(tiny: Workspace) -> None:
    stale, sound = tiny.cell("1b", 1), tiny.cell("3a", 1)
    write_results(tiny.study)
    write_results(tiny.study, [stale], hyperparameters={"batch_size": 16})
    old = contents(tiny)
    os.utime(tiny.study.result_path(sound), (time.time() + 1e5,) * 2)
    for _ in range(2):
        tiny.study.result_path(stale).write_bytes(old[stale.result_name])    # a backup comes back, with its time
        os.utime(tiny.study.result_path(stale), (0, 0))
        run = tiny.snakemake()
        assert run.code == 0 and run.cells == {stale: "stale"}, run.text
        assert state_of(tiny.study, stale).state.finished
        assert len(list((tiny.folder / "results/superseded").iterdir())) == 1
    assert contents(tiny)[sound.result_name] == old[sound.result_name]
    assert DONE in tiny.snakemake("-n").text


def test_another_plan_than_announced_is_refused(tiny: Workspace) -> None:
    cell, dataset = tiny.cell("1b", 1), tiny.study.dataset_path(tiny.cell("1b", 1))
    dataset.parent.mkdir(parents=True)
    dataset.touch()
    (tiny.folder / "results/.trained" / cell.name / "not empty").mkdir(parents=True)    # a flag that cannot be removed
    run = tiny.snakemake()
    assert run.code != 0 and "Traceback" not in run.text
    assert f"trains 3 cells, 4 are to be trained; it differs in {cell.name}" in run.text
    assert not contents(tiny)


def test_jobs_run_this_environment(tiny: Workspace) -> None:
    other = tiny.folder / "other/qablate"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 3\n")
    other.chmod(0o755)
    run = tiny.snakemake(PATH=f"{other.parent}:/usr/bin:/bin")
    assert run.code == 0, run.text


def test_an_imported_cell_and_one_of_another_system_are_not_trained(new_workspace) -> None:
    space = new_workspace({**TINY, "systems": {"dgx": {"results": "elsewhere"}},
                           "assign": {"overrides": [{"system": "nersc", "models": ["1b"], "seeds": [1]}]}})
    study = Study({**space.study.config, "results": space.folder / "results"})
    imported, theirs = space.cell("3a", 1), space.cell("1b", 1)
    source = space.folder / "elsewhere" / imported.result_name
    source.parent.mkdir()
    source.write_text(json.dumps(record_of(study, imported)))
    first = space.snakemake("--cores", "2")
    assert first.code == 0, first.text
    assert set(first.cells) == set(study.cells) - {imported, theirs}
    assert "  1 cells are assigned to nersc\n" in first.text
    assert not space.report.exists()      # a combined report would lack what nersc is to train
    run = space.snakemake("--cores", "2", "--config", "system=nersc")
    assert run.code == 0, run.text
    assert set(run.cells) == {theirs}
    assert space.report.exists()
    source.write_text(json.dumps(record_of(study, imported, test_mse=0.123)))
    changed = space.snakemake("-n")
    assert not changed.cells
    assert "report on all cells" in changed.text
    source.unlink()
    assert set(space.snakemake("-n").cells) == {imported}


def test_variants_have_their_datasets_jobs_and_targets(new_workspace) -> None:
    space = new_workspace({
        **TINY, "models": ["1b", "1b-tanh"], "seeds": [1], "variants": {"tanh": {"model": {"circuit": "tanh"}}},
        "task_variants": {"n3": {"forrelation": {"n_bits": 3}}, "more": {"forrelation": {"n_train": 160}}},
        "tasks": {task: {"lengths": [16]} for task in ("adding_problem", "forrelation-n3", "forrelation-n3-more")}})
    run = space.snakemake("-c1", "--until", "train")
    assert run.code == 0, run.text
    study = space.study
    assert all(study.result_path(cell).exists() and study.dataset_path(cell).exists() for cell in study.cells)
    assert len(run.cells) == len(study.cells) == 6
    assert "6 done, 0 to train" in space.snakemake("-n").text
    target = study.result_path(study.cells[-1])
    target.unlink()
    assert space.snakemake("-n", str(target.relative_to(space.folder))).train_jobs == 1
