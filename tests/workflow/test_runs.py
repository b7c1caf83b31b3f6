"""Real runs of a tiny study with a stand-in for the trainer: what is trained, kept, moved and reported."""

import base64
import json
import os
import shlex
import shutil
import time

import pytest
from factories import record_of, write_results
from working_folder import ROOT, TINY, WorkingFolder, wait_for

from qablate.results import state_of
from qablate.study import Cell, Study

PROFILE = ("--profile", "profiles/local", "--cores", "2")
DONE = "Nothing to be done"


def set_age(space: WorkingFolder, seconds: float) -> None:
    """Make everything below results that much older, so that what comes next is newer beyond doubt."""
    then = time.time() - seconds
    for path in [*space.folder.glob("results/**/*"), space.folder / "results"]:
        os.utime(path, (then, then))


def cell(model: str, seed: int) -> Cell:
    return Cell(model, "adding_problem", 16, seed)


def contents(space: WorkingFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in space.study.result_folder.glob("*.json")}


def test_what_ends_next_to_a_running_study_leaves_its_lock(tiny: WorkingFolder) -> None:
    """A report of what exists is made meanwhile; a second run of the study is refused all the same."""
    locks, gate = tiny.folder / ".snakemake/locks", tiny.folder / "gate"
    gate.touch()    # cells wait for it to go
    running = tiny.start("--cores", "2")
    wait_for(lambda: len(list(locks.glob("*.lock"))) == 2 and list(locks.glob("owner-*")), "a lock")
    held = sorted(path.name for path in locks.iterdir())
    assert tiny.run("progress").code == 0
    assert sorted(path.name for path in locks.iterdir()) == held
    second = tiny.run("--cores", "1")
    assert second.code != 0 and "Directory cannot be locked" in second.text
    gate.unlink()
    assert running.wait(200) == 0, tiny.printed
    assert not list(locks.iterdir()) and len(contents(tiny)) == 4
    assert DONE in tiny.run("--cores", "1").text


@pytest.mark.parametrize(("profile", "lost"), [
    ("nersc-node", "system, run.device, jobs.cost_device, jobs.launcher"),
    ("dgx", "system, run.device, run.threads, run.gpu_memory_fraction")])
def test_no_setting_of_a_profile_is_lost_or_overrules_an_overlay_unseen(tiny: WorkingFolder, profile: str,
                                                                        lost: str) -> None:
    with_config = tiny.run("-n", "--profile", f"profiles/{profile}", "--config", "seeds=[1]")
    assert with_config.code != 0
    assert with_config.text.splitlines()[-1].startswith(f"Settings (config.yaml): {lost}: lost")
    (tiny.folder / "mine.yaml").write_text("{system: mine, seeds: [1]}")
    overlay = tiny.run("-n", "--profile", f"profiles/{profile}", "--configfile", "mine.yaml")
    said = [line for line in overlay.text.splitlines() if "by a profile or --config" in line]
    assert (overlay.code, overlay.train_jobs) == (0, 2), overlay.text
    assert said == [f"  system: {profile.removesuffix('-node')} by a profile or --config, not mine"]


def test_an_environment_of_another_clone_is_named(tiny: WorkingFolder) -> None:
    line = f"  cells run the code of {ROOT / 'src/qablate'}, not that beside this Snakefile"
    assert line not in tiny.run("-n").text
    (tiny.folder / "src/qablate").mkdir(parents=True)
    assert line in tiny.run("-n").text.splitlines()


def test_a_run_on_a_login_node_says_where_it_trains(tiny: WorkingFolder) -> None:
    line, one = "  in no Slurm job: cells are trained on this machine", str(tiny.study.result_path(cell("1b", 1)))
    tiny.program("sbatch", "#!/bin/sh\nexit 1\n")
    assert line not in tiny.run("-n").text + tiny.run("progress").text + tiny.run("-c1", one, SLURM_JOB_ID="1").text
    assert line in tiny.run("-c1").text
    assert len(contents(tiny)) == 4 and line not in tiny.run("-c1").text


def test_finished_cells_are_never_trained_again(tiny: WorkingFolder) -> None:
    study, copied = tiny.study, cell("1b", 1)
    write_results(study, [copied])
    result = study.result_path(copied)
    before = (result.stat().st_ino, result.stat().st_mtime_ns)

    first = tiny.run("--cores", "2")
    assert first.code == 0, first.text
    assert set(first.cells) == set(study.cells) - {copied}  # its dataset was made for 3a all the same
    assert (result.stat().st_ino, result.stat().st_mtime_ns) == before
    assert tiny.report.read_text() == "4 cells"
    assert len(contents(tiny)) == 4
    assert "training 1b_" in tiny.log(cell("1b", 2))

    assert DONE in tiny.run("--cores", "2").text
    assert DONE in tiny.run("-n", *PROFILE).text

    rules = tiny.folder / "workflow/rules/train.smk"
    rules.write_text(rules.read_text().replace('"""Train one cell', '"""Train (a comment) one cell').replace(
        "qablate train", "qablate  train"))
    for path in tiny.folder.glob("results/datasets/**/*.npz"):
        path.touch()
    assert DONE in tiny.run("-n").text

    set_age(tiny, 100)
    result.unlink()
    for target in ((), ("results/combined_report.md",)):
        again = tiny.run("-n", *target)
        assert set(again.cells) == {copied}, again.text
        assert "report on all cells" in again.text


def test_results_that_no_longer_stand_are_moved_and_trained(tiny: WorkingFolder) -> None:
    study = tiny.study
    stale, broken, failing, sound = (cell(m, s) for m, s in [("1b", 1), ("3a", 1), ("1b", 2), ("3a", 2)])
    write_results(study, [sound])
    write_results(study, [stale], hyperparameters={"batch_size": 16})
    study.result_path(broken).write_text('{"model_id": "3a", "test_mae": ')
    tiny.report.write_text("an older report")
    set_age(tiny, 100)
    tiny.report.touch()
    old = {path.read_bytes() for path in (study.result_path(stale), study.result_path(broken))}
    untouched = study.result_path(sound).stat().st_mtime_ns

    dry = tiny.run("-n")
    assert dry.cells == {stale: "stale", broken: "unreadable", failing: "missing"}
    assert "study tiny: 4 cells, 1 done, 3 to train (1 missing, 1 stale, 1 unreadable)" in dry.text
    assert "  training.batch_size is 16, the study has 32\n" in dry.text
    assert "truncated: ends before task" in dry.text
    assert not (tiny.folder / "results/superseded").exists()

    real = tiny.run(*PROFILE, "--retries", "0", QABLATE_FAKE_FAIL=failing.name)
    assert real.code != 0
    assert "out of memory, says the stand-in" in real.text
    assert "Traceback" not in real.text
    assert {state_of(study, cell).state for cell in (stale, broken, sound)} == {"done"}
    assert state_of(study, failing).state == "missing"
    assert len(contents(tiny)) == 3     # the failed one is none of them, nor are the copies of those replaced
    kept = list((tiny.folder / "results/superseded").iterdir())
    assert {path.read_bytes() for path in kept} == old
    assert study.result_path(sound).stat().st_mtime_ns == untouched
    assert tiny.report.read_text() == "an older report"

    last = tiny.run(*PROFILE, QABLATE_FAKE_STOP=failing.name)  # stops for time once, then resumes
    assert last.code == 0, last.text
    assert set(last.cells) == {failing}
    assert tiny.log(failing).count("training ") == 3  # failed, stopped, resumed: the log was appended to
    assert tiny.report.read_text() == "4 cells"
    assert DONE in tiny.run("-n").text


def test_progress_trains_nothing(tiny: WorkingFolder) -> None:
    study = tiny.study
    write_results(study, [cell("1b", 1)])
    write_results(study, [cell("3a", 1)], hyperparameters={"batch_size": 16})
    files = sorted(study.result_folder.iterdir())
    for cells in (2, 2):
        run = tiny.run("progress", "--cores", "1")
        assert run.code == 0, run.text
        assert not run.cells
        progress = tiny.folder / "results/progress_report.md"
        assert progress.read_text() == f"{cells} cells"
        progress.unlink()
    assert not tiny.report.exists()
    assert sorted(study.result_folder.iterdir()) == files
    assert not (tiny.folder / "results/superseded").exists()


def test_the_path_of_an_overlay_may_have_braces_and_is_in_what_a_failure_prints(tiny: WorkingFolder) -> None:
    overlay = ("--configfile", "my {st}.yaml", "--config", "seeds=[1]", "system=dgx")
    (tiny.folder / overlay[1]).write_text("name: mine\nresults: mine\nmodels: [1b]\n")
    (tiny.folder / "else where").mkdir()
    shutil.copy(tiny.folder / "config.yaml", tiny.folder / "else where")
    for where, folder in (("", []), (f"{tiny.folder}/", ["--directory", f"{tiny.folder}/else where"])):
        failed = tiny.run(*PROFILE, "--retries", "0", *folder, *overlay,
                                QABLATE_FAKE_FAIL=cell("1b", 1).name)
        typed = shlex.join(["snakemake", "progress", *(["--snakefile", f"{where}Snakefile"] if where else []), *folder,
                            "--configfile", f"{where}my {{st}}.yaml", *overlay[2:4]])
        assert failed.code and f"What exists: {typed}\n" in failed.text
    assert tiny.run(*PROFILE, *overlay).code == 0
    assert DONE in tiny.run("-n", *overlay).text


def test_no_option_trains_a_valid_result(tiny: WorkingFolder) -> None:
    write_results(tiny.study)
    before, result = contents(tiny), f"results/synthetic_benchmarks/{cell('1b', 1).result_name}"
    for options in (["-F"], ["-R", "train"], ["-f", result], ["--workflow-profile", "profiles/local"], [result]):
        run = tiny.run(*options, "--rerun-triggers", "code", "params", "input", "mtime")
        assert run.code == 0, run.text
        assert not run.cells and contents(tiny) == before
    assert tiny.report.exists()


def test_file_times_decide_nothing(tiny: WorkingFolder) -> None:
    stale, sound = cell("1b", 1), cell("3a", 1)
    write_results(tiny.study)
    write_results(tiny.study, [stale], hyperparameters={"batch_size": 16})
    old = contents(tiny)
    os.utime(tiny.study.result_path(sound), (time.time() + 1e5,) * 2)
    for _ in range(2):
        tiny.study.result_path(stale).write_bytes(old[stale.result_name])    # a backup comes back, with its time
        os.utime(tiny.study.result_path(stale), (0, 0))
        run = tiny.run()
        assert run.code == 0 and run.cells == {stale: "stale"}, run.text
        assert state_of(tiny.study, stale).state.finished
        assert len(list((tiny.folder / "results/superseded").iterdir())) == 1
    assert contents(tiny)[sound.result_name] == old[sound.result_name]
    assert DONE in tiny.run("-n").text


def test_another_plan_than_announced_is_refused(tiny: WorkingFolder) -> None:
    one, dataset = cell("1b", 1), tiny.study.dataset_path(cell("1b", 1))
    dataset.parent.mkdir(parents=True)
    dataset.touch()
    (tiny.folder / "results/.trained" / one.name / "not empty").mkdir(parents=True)    # a flag that cannot be removed
    for limit in ([], ["--until", "train"]):
        run = tiny.run(*limit)
        assert run.code != 0 and "Traceback" not in run.text
        assert f"trains 3 cells, 4 are to be trained; it differs in {one.name}" in run.text
        assert not contents(tiny)


def test_batches_are_refused(tiny: WorkingFolder) -> None:
    run = tiny.run("-n", "--batch", "all=1/2")
    assert run.code != 0 and run.text.splitlines()[-1].startswith("Settings (config.yaml): --batch: finished cells")


def test_from_another_folder_the_command_that_a_failure_prints_runs_as_typed(tiny: WorkingFolder) -> None:
    elsewhere = tiny.folder / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tiny.folder / "config.yaml", elsewhere)
    there = WorkingFolder(elsewhere, tiny.environment)
    failed = there.run("-s", "../Snakefile", "-c1", "--retries", "0", QABLATE_FAKE_FAIL=cell("1b", 1).name)
    typed = failed.text.split("What exists: ")[1].splitlines()[0]
    assert there.run(*shlex.split(typed)[1:]).code == 0
    assert (elsewhere / "results/progress_report.md").exists()


def test_the_flag_of_a_cell_may_be_asked_for(tiny: WorkingFolder) -> None:
    run = tiny.run("-n", f"results/.trained/{cell('1b', 1).name}")
    assert run.code == 0 and run.cells.keys() == {cell("1b", 1)}, run.text


def test_a_dataset_that_is_there_is_neither_made_again_nor_a_question(tiny: WorkingFolder) -> None:
    """Its rule has changed since, and Snakemake was killed before it noted that the job was done."""
    dataset = str(tiny.study.dataset_path(cell("1b", 1)).relative_to(tiny.folder))
    assert tiny.run("-c1", dataset).code == 0
    rules = tiny.folder / "workflow/rules/datasets.smk"
    rules.write_text(rules.read_text().replace("qablate dataset", "qablate  dataset"))
    marks = tiny.folder / ".snakemake/incomplete"
    marks.mkdir(exist_ok=True)
    (marks / base64.urlsafe_b64encode(dataset.encode()).decode()).touch()
    assert DONE in tiny.run("-n", dataset).text


def test_jobs_run_this_environment(tiny: WorkingFolder) -> None:
    other = tiny.folder / "other/qablate"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 3\n")
    other.chmod(0o755)
    run = tiny.run(PATH=f"{other.parent}:/usr/bin:/bin")
    assert run.code == 0, run.text


def test_an_imported_cell_and_one_of_another_system_are_not_trained(new_workspace) -> None:
    space = new_workspace(**TINY, systems={"dgx": {"results": "elsewhere"}},
                          assign={"overrides": [{"system": "nersc", "models": ["1b"], "seeds": [1]}]})
    study = Study({**space.study.config, "results": space.folder / "results"})
    imported, theirs = cell("3a", 1), cell("1b", 1)
    source = space.folder / "elsewhere" / imported.result_name
    source.parent.mkdir()
    source.write_text(json.dumps(record_of(study, imported)))
    first = space.run("--cores", "2")
    assert first.code == 0, first.text
    assert set(first.cells) == set(study.cells) - {imported, theirs}
    assert "  1 cells are assigned to nersc\n" in first.text
    assert not space.report.exists()      # a combined report would lack what nersc is to train
    run = space.run("--cores", "2", "--config", "system=nersc")
    assert run.code == 0, run.text
    assert set(run.cells) == {theirs}
    assert space.report.exists()
    source.write_text(json.dumps(record_of(study, imported, test_mse=0.123)))
    changed = space.run("-n")
    assert not changed.cells
    assert "report on all cells" in changed.text
    source.unlink()
    assert set(space.run("-n").cells) == {imported}


def test_variants_have_their_datasets_jobs_and_targets(new_workspace) -> None:
    space = new_workspace(**{
        **TINY, "models": ["1b", "1b-tanh"], "seeds": [1], "variants": {"tanh": {"model": {"circuit": "tanh"}}},
        "task_variants": {"n3": {"forrelation": {"n_bits": 3}}, "more": {"forrelation": {"n_train": 160}}},
        "tasks": {task: {"lengths": [16]} for task in ("adding_problem", "forrelation-n3", "forrelation-n3-more")}})
    run = space.run("-c1", "--until", "train")
    assert run.code == 0, run.text
    study = space.study
    assert all(study.result_path(cell).exists() and study.dataset_path(cell).exists() for cell in study.cells)
    assert len(run.cells) == len(study.cells) == 6
    assert "6 done, 0 to train" in space.run("-n").text
    target = study.result_path(study.cells[-1])
    target.unlink()
    assert space.run("-n", str(target.relative_to(space.folder))).train_jobs == 1
