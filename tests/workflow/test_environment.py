"""What an environment is made from: hashed versions, one set of steps for machines and containers."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from working_folder import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PINNED = dict(re.findall(r"^([a-z0-9][\w.-]*)==([^ ;\\\n]+)", LOCK, re.M))
BY_VERSION = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements-torch.lock").read_text(), re.M))
CONTAINERFILE = (ROOT / "Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def steps(folder: Path, *words: str) -> list[str]:
    """The commands of `make setup` in a folder without an environment, none of them run."""
    done = subprocess.run(["make", "-n", "--no-print-directory", "setup", "EXTRAS=gpu", *words], cwd=folder, text=True,
                          capture_output=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A clean folder with what the Containerfile copies."""
    for line in re.findall(r"^COPY (.*)$", CONTAINERFILE, re.M):
        *sources, target = line.split()
        for source in map(ROOT.joinpath, sources):
            if source.is_dir():
                shutil.copytree(source, tmp_path / target)
            else:
                shutil.copy(source, tmp_path / target)
    return tmp_path


def test_every_pinned_file_has_its_hash_and_no_address() -> None:
    blocks = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.M)[1:]
    assert len(blocks) == len(PINNED) > 90
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK


def test_everything_that_the_project_needs_is_pinned() -> None:
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *extras["test"], *extras["gpu"], *extras["slurm"]]
    names = {re.split(r"[\[<>=; ]", requirement)[0].lower() for requirement in needed} - {PROJECT["name"]}
    assert names <= PINNED.keys() | BY_VERSION.keys()
    assert BY_VERSION.keys() == {"torch", "triton"} and not BY_VERSION.keys() & PINNED.keys()


def test_a_container_takes_the_steps_of_make(container: Path) -> None:
    assert re.findall(r"^RUN (?!apt-get)(.*)$", CONTAINERFILE, re.M) == ["make setup EXTRAS=gpu"]
    assert steps(container) == steps(ROOT, "--always-make")
    named = [PROJECT["readme"], *PROJECT["license-files"], "src/qablate/cli.py"]
    assert all((container / name).is_file() for name in named)


@pytest.mark.parametrize(("uv", "first"), [("UV=", ".venv/bin/pip"), ("UV=/opt/uv", "/opt/uv pip")])
def test_hashes_are_required_with_pip_and_with_uv(container: Path, uv: str, first: str) -> None:
    install = [line for line in steps(container, uv) if " install " in line]
    assert ["--require-hashes --no-deps -r requirements.lock" in line for line in install] == [True, False]
    assert "'.[test,gpu]' -c requirements-torch.lock" in install[1]
    assert all(line.startswith(first) for line in install)
