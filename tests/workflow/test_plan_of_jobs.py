"""The shape of the workflow: config in, set of jobs out. Dry runs only; nothing is trained."""

import re
from collections.abc import Callable

import pytest
from factories import write_results
from working_folder import TINY, Run, WorkingFolder

from qablate.study import Cell


@pytest.fixture(scope="module")
def full(new_workspace: Callable[..., WorkingFolder]) -> WorkingFolder:
    return new_workspace()


@pytest.fixture(scope="module")
def dry(full: WorkingFolder) -> Run:
    return full.run("-n", PYTHONPROFILEIMPORTTIME="1")


def test_fresh_study_trains_every_cell_once_and_says_so_in_a_line(full: WorkingFolder, dry: Run) -> None:
    assert (dry.code, dry.train_jobs) == (0, 396)
    assert list(dry.cells.items()) == [(cell, "missing") for cell in full.study.cells]    # in the study's order
    assert "study published: 396 cells, 0 done, 396 to train (396 missing)" in dry.text
    assert not (full.folder / "results").exists()
    shown = dry.text[dry.text.index("Job stats:"):].splitlines()
    lines = [line for line in shown if not line.startswith("import time:")]
    assert len(lines) < len(dry.cells) + 15
    assert max(map(len, lines[:-1])) <= 80    # the last is Snakemake's own


def test_dry_run_imports_nothing_heavy(dry: Run) -> None:
    imported = {line.rsplit("|", 1)[1].strip() for line in dry.text.splitlines() if line.startswith("import time:")}
    assert "qablate.study" in imported
    assert not {name for name in imported if name.split(".")[0] in ("torch", "pennylane", "numba", "scipy")}


def test_demo_has_every_model_on_every_task(full: WorkingFolder) -> None:
    launcher = "srun -A ${SBATCH_ACCOUNT}"    # no concern of a job's, and its braces are none of Snakemake's
    run = full.run("-n", "-p", "--configfile", "workflow/studies/demo.yaml", "--config", "system=elsewhere",
                         f"jobs={{launcher: '{launcher}'}}")
    assert run.train_jobs == len(run.cells) == 36
    assert len({(cell.model, cell.task) for cell in run.cells}) == 36
    settings = "--config config.yaml workflow/studies/demo.yaml --set '{\"system\":\"elsewhere\"}'"
    assert run.text.count(f"{launcher} qablate train {settings} ") == run.train_jobs
    assert set(re.findall(r"--output (\S+)/synthetic_", run.text)) == {"results/demo/synthetic_benchmarks"}


@pytest.mark.parametrize(("asked", "words"), [
    (("--configfile", "more.yaml"),
     "Settings (config.yaml, more.yaml): training.patiense: unknown key, did you mean 'patience'?"),
    (("results/synthetic_benchmarks/synthetic_1b_adding_problem_L16_seed9_results.json",),
     "Settings (config.yaml): seed 9: study 'tiny' has 1, 2"),
])
def test_what_the_study_does_not_know_is_one_clear_error(tiny: WorkingFolder, asked: tuple[str], words: str) -> None:
    (tiny.folder / "more.yaml").write_text("training: {patiense: 3}")
    run = tiny.run("-n", *asked)
    assert run.code != 0 and not run.cells
    assert words in run.text and "Traceback" not in run.text


def test_more_seeds_add_only_their_cells(tiny: WorkingFolder) -> None:
    write_results(tiny.study)
    run = tiny.run("-n", "--config", "seeds=[1, 2, 3]")
    assert set(run.cells) == {Cell(model, "adding_problem", 16, 3) for model in TINY["models"]}
