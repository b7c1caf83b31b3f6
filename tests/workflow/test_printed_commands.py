"""Every command that README and docs print runs exactly as printed, in a shell with nothing but the environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from factories import write_results
from working_folder import ROOT, WorkingFolder

TINY = {
    "models": ["1b", "2d"], "seeds": [2024], "data": {"n_samples": 100},
    "tasks": {"forrelation": {"lengths": [16], "n_bits": 6},
              "adding_problem": {"lengths": [100, 500], "placement": "extremes"},
              "selective_copy": {"lengths": [100], "n_markers": 8}},
}
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    r"make demo|make test": "installs an environment; `make test` is what runs this",
    r"^snakemake --profile profiles/nersc|^sbatch |^salloc |^sacctmgr |^module ": "needs NERSC's Slurm (tests/slurm)",
    r"--profile profiles/dgx": "shares a GPU's slots among cells (tests/slurm/test_one_machine.py)",
    r"^(python3? -m venv|pip install|git clone|cd \$PSCRATCH|source /global)": "sets up an environment, from a network",
    r"torch\.cuda|^tmux |^rsync ": "needs a GPU, a terminal or another machine",
    r"^pytest ": "tests of the project, which run by themselves",
    r"^tail -f|--watch": "goes on until it is interrupted",
    r"--logger rich|\| jq ": "needs a program that is not installed with the package",
    r"studies/parity": "needs the entries that its page adds (tests/test_adding.py runs both commands)",
    r"length 100 --seed 2026|bench.py": "takes minutes",
}


def commands_of(page: str) -> list[str]:
    """The lines of the page's code blocks that begin with a program of ours or of the shell."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    inline = re.findall(r"`((?:snakemake|qablate) [^`]*)`", (ROOT / page).read_text()) if page == "README.md" else []
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    programs = (r"(snakemake|qablate|make|sbatch|pip|python3?|ls|tail|git|rsync|pytest|tmux|module|sacctmgr|cd|export"
                r"|\.) ")
    return [line for line in [*lines, *inline] if re.match(programs, line + " ")]


def reason_not_to_run(command: str) -> str | None:
    return next((reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, command)), None)


TO_RUN = [(page, command) for page in PAGES for command in commands_of(page) if not reason_not_to_run(command)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> WorkingFolder:
    """A checkout with a tiny study, all but one cell of it done."""
    space = WorkingFolder.make(tmp_path_factory.mktemp("printed"), TINY)
    space.stand_in()
    write_results(space.study, space.study.cells[1:])
    (space.folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "results/systems", space.folder / "results/systems")
    return space


@pytest.mark.parametrize(("page", "command"), TO_RUN)
def test_printed_command_runs(page: str, command: str, folder: WorkingFolder) -> None:
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "USER") if key in os.environ}
    path = os.pathsep.join([str(folder.folder / "bin"), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    done = subprocess.run(["bash", "-c", command], cwd=folder.folder, text=True, capture_output=True, timeout=200,
                          env={**kept, "PATH": path, "PYTHONPATH": f"{ROOT}/tests{os.pathsep}{ROOT}/src"})
    assert done.returncode == 0, f"{page}: {command}\n{done.stdout[-500:]}{done.stderr[-1000:]}"
    assert "Traceback" not in done.stderr


def test_each_reason_not_to_run_is_needed() -> None:
    printed = [command for page in PAGES for command in commands_of(page)]
    assert len(printed) > 25
    first = [next((pattern for pattern in ELSEWHERE if re.search(pattern, command)), None) for command in printed]
    assert set(ELSEWHERE) <= set(first)
