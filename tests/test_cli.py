"""Commands answer at once, and bad input is one clear line."""

import errno
import json
import math
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
import yaml
from factories import CONFIG

from qablate.cli import main
from qablate.config import with_yaml_types


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().err


def config_with(tmp_path: Path, changes: dict | str) -> str:
    path = tmp_path / "over.yaml"
    path.write_text(changes if isinstance(changes, str) else yaml.safe_dump(changes))
    return str(path)


CELL = "--model 1b --task adding_problem --length 100 --seed 2024".split()
SYSTEMS = {"systems": {"dgx": {"results": "there"}}}
HOSTILE = (
    "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "a: &a {b: *a}", "seeds: [!!int '']", "name: !!timestamp x", "- a", "",
    "name: !!bool maybe", "seeds: " + "9" * 9000, "a: [", "\x00", "&a [*a]", "[" * 5000,
    "name: !!python/object/apply:os.system [x]", "? [a, b]\n: c",
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"patiense": 20}}, "training.patiense: unknown key, did you mean 'patience'?"),
        ({"models": ["1b", "9z"]}, "models.1: '9z' is not allowed"),
        ({"tasks": {"selective_copy": {"lengths": [6]}}}, "6 is shorter than its 8 markers"),
        ({"training": {"patience": 3}}, "the recipe 'published' is frozen"),
        ({"training": {"patience": 10**4 + 1, "recipe": "x"}}, "patience: 10001 is not allowed (maximum: 10000)"),
        ({"seeds": "2024"}, "seeds: '2024' is not of type array"),
        ({"training": {"learning_rate": "3e-4"}}, "finite number; in YAML such a number has a point and a sign"),
        ({"results": "config.yaml/x"}, "results: config.yaml/x: config.yaml is no folder"),
        ({"run": {"max_seconds": math.inf}}, "run.max_seconds: inf is not of type finite number or null"),
        ({"tasks": {"copying": {"lengths": [6]}}}, "tasks.copying: unknown key"),
        ({"variants": {False: {"model": {"chunk": 8}}}}, "variants: key False must be text, write it in quotes"),
        ({"task_variants": {date(2024, 1, 1): {}}}, "task_variants: key 2024-01-01 must be text"),
        ({"systems": {None: {"results": "there"}}}, "systems: key None must be text"),
        ({"tasks": {1: {"lengths": [6]}}}, "tasks: key 1 must be text"),
        ({"import": {"quarantine": [{1: "x"}]}}, "import.quarantine: key 1 must be text"),
        ({"results": "a/../../b"}, "results: 'a/../../b' is not allowed: write the folder without '..'"),
        ({"results": "x" * 251}, "is not allowed (maxLength: 250)"),
        ({"systems": {"x": {"results": ["a\0b"]}}}, r"systems.x.results: 'a\x00b' holds '\x00', which no file"),
        ({"assign": {"forrelation": "dxg"}, **SYSTEMS}, "assign.forrelation: unknown system 'dxg', did you mean 'dgx'"),
        ({"assign": {"overrides": [{"system": "moon"}]}}, "assign.overrides.0.system: unknown system 'moon'"),
        ({"assign": {"adding": "dgx"}, **SYSTEMS}, "assign.adding: unknown key, did you mean 'adding_problem'?"),
        ({"systems": {"dgx": {"logs": "x"}}}, "systems.dgx.results: missing key"),
        ({"systems": {"dgx": {"results": 3}}}, "systems.dgx.results: 3 is not of type"),
        ({"seeds": [2024.0]}, "seeds.0: 2024.0 is not of type integer"),    # it would be another number in file names
        ({"model": {"d_model": 128.0}}, "model.d_model: 128.0 is not of type integer"),
        ({"training": {"patience": True}}, "training.patience: True is not of type integer"),
        ("seeds: [1]\nseeds: [2]", "over.yaml: not valid YAML: key 'seeds' is given twice in"),
        ("run: {threads: 1, threads: 1}", "key 'threads' is given twice in"),
        ("seeds: 0x" + "f" * 9000, "seeds: a number of thousands of digits is not of type array"),
        *((text, "over.yaml: ") for text in HOSTILE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_settings_name_the_key(capsys, tmp_path, changes, expected):
    code, error = run(capsys, "train", *CELL, "--config", str(CONFIG), config_with(tmp_path, changes))
    assert (code, error.count("\n")) == (2, 1)
    assert expected in error and len(error) < 500


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "9z", *CELL[2:]], "unknown model '9z'"),
        ([*CELL[:2], "--task", "copying", *CELL[4:]], "unknown task 'copying'"),
        ([*CELL[:4], "--length", "7", *CELL[6:]],
         "length 7: study 'published' has 100, 200, 500, 1000"),
        ([*CELL[:-1], "7"], "seed 7: study 'published' has 2024, 2025, 2026"),
        ([*CELL, "--output", "x.json"], "is named synthetic_1b_adding_problem_L100_seed2024_results.json"),
        ([*CELL, "--config", "nowhere.yaml"], "nowhere.yaml: cannot read"),
        ([*CELL, "--max-seconds", "inf"], "--max-seconds: inf is not of type finite number"),
        ([*CELL, "--max-seconds", "nan"], "--max-seconds: nan is not of type finite number"),
        ([*CELL, "--max-seconds", "0"], "--max-seconds: 0.0 is not allowed (exclusiveMinimum: 0)"),
        ([*CELL, "--set", '{"models": ["1a"]}'], "model 1b: study 'published' has 1a"),
        (["check", "x_results.json", "--seed", "-1"], "--seed: -1 is outside 0..4294967295"),
        (["check", "x_results.json", "--seed", "4294967296"], "--seed: 4294967296 is outside 0..4294967295"),
    ],
)
def test_bad_arguments_are_one_line(capsys, arguments, expected):
    if "--config" not in arguments:
        arguments = [*arguments, "--config", str(CONFIG)]
    code, error = run(capsys, *(arguments if arguments[0] == "check" else ["train", *arguments]))
    assert (code, error.count("\n")) == (2, 1)
    assert expected in error


def test_a_cell_is_not_started_when_its_job_is_about_to_end(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    assert main(["train", "--config", str(CONFIG), *CELL]) == 85
    assert "about to end: not started" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_dataset_that_is_not_the_one_stays_as_it_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = ["dataset", "--config", str(CONFIG), *CELL[2:]]
    assert main(dataset) == 0
    path = next(Path("results/datasets").rglob("*.npz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    for command in (dataset, ["train", "--config", str(CONFIG), *CELL]):
        code, error = run(capsys, *command)
        assert code == 2
        assert path.name in error
        assert error.count("\n") == 1
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("command", [["status", "--no-queue"], ["report", "--partial"], ["dataset", *CELL[2:]],
                                     ["train", *CELL]])
def test_folders_of_another_user_are_one_line(capsys, tmp_path, monkeypatch, command):
    def locked(self, *args, stat=Path.stat, **options):
        if self.is_relative_to(tmp_path / "locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return stat(self, *args, **options)

    monkeypatch.setattr(Path, "stat", locked)
    settings = json.dumps({"results": str(tmp_path / "locked/results")})
    code, error = run(capsys, *command, "--config", str(CONFIG), "--set", settings)
    assert code != 0 and error.count("\n") == 1 and error.startswith(f"qablate: {tmp_path}/locked")


@pytest.mark.parametrize("text", ["2024-13-45", "0b_", "a: [", "1b"])
def test_what_yaml_cannot_read_stays_text(text):
    assert with_yaml_types({"name": [text]}) == {"name": [text]}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", *CELL, "--config", "nowhere.yaml"]])
def test_heavy_imports_wait_until_they_are_needed(arguments):
    code = (
        "import sys; import qablate; from qablate.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pennylane', 'pandas', 'numpy', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip().endswith("[]")


def test_error_lines_have_a_length_limit_and_no_control_characters(capsys, tmp_path):
    long = "x\x1b[31m\n" * 5000
    for arguments in (["--config", long], ["--config", str(CONFIG), config_with(tmp_path, {"models": [long]})],
                      ["--config", str(CONFIG), config_with(tmp_path, {long: 1})]):
        code, error = run(capsys, "train", *CELL, *arguments)
        assert code == 2
        assert error.count("\n") == 1
        assert len(error) <= 520
        assert error.strip().isprintable()
    for option in (["--device", long], ["--set", "[" * 50_000]):
        with pytest.raises(SystemExit):
            main(["train", *CELL, *option])
        assert len(capsys.readouterr().err.splitlines()[-1]) <= 540


def test_config_files_lie_over_config_yaml_unless_it_is_one_of_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG.read_text())
    Path("overlay.yaml").write_text("name: overlay\nseeds: [7]\n")
    Path("other.yaml").write_text("name: other\n")
    for files in (["overlay.yaml"], ["config.yaml", "overlay.yaml"], ["./config.yaml", "overlay.yaml"],
                  ["other.yaml", "overlay.yaml"]):
        code, error = run(capsys, "dataset", *CELL[2:], "--config", *files)
        assert code == 2
        assert "seed 2024: study 'overlay' has 7" in error
    Path("config.yaml").unlink()
    code, error = run(capsys, "dataset", *CELL[2:], "--config", "overlay.yaml")
    assert code == 2
    assert "not in study" not in error


@pytest.mark.parametrize(("words", "expected"), [
    (("sta",), {"status"}), (("train", "--m"), {"--model", "--max-seconds"}),
    (("status", "--config", "config.y"), {"config.yaml"}),
])
def test_words_are_completed_in_bash(tmp_path, words, expected):
    (tmp_path / "config.yaml").touch()
    line = " ".join(("qablate", *words))
    script = f"""source <({sys.executable} -m qablate --print-completion bash)
        COMP_WORDS=({line}) COMP_CWORD={len(words)} COMP_LINE='{line}' COMP_POINT={len(line)}
        $(complete -p qablate | grep -o '_shtab[a-z_]*') qablate {words[-1]}
        echo ${{COMPREPLY[@]}}"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == expected, done.stderr
