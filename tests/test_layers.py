"""Imports point down only, and the layers that must start fast import nothing heavy."""

import ast
from pathlib import Path

import pytest

import qablate

ROOT = Path(qablate.__file__).parent
LAYERS = {
    **dict.fromkeys(("errors", "catalog", "files", "goldens", "config", "study", "records", "provenance", "hours",
                     "logs", "jobs", "locks", "slurm", "variants"), 0),
    **dict.fromkeys(("simd", "selfcheck"), 0.5),    # what compiled kernels of layer 1 share
    **dict.fromkeys(("tasks", "quantum", "ssm", "results"), 1),
    "plan": 1.5,    # the workflow's questions, answered with what every system has made
    **dict.fromkeys(("models", "status"), 2),
    **dict.fromkeys(("analysis", "workflow"), 2.5),    # hours left are those of the status
    "training": 3,
    "checks": 3.5,
    "cli": 4,
    "__init__": 4, "__main__": 5,    # the first imports inside its functions; tests/analysis/test_loading.py
}
HEAVY = {"torch", "pennylane", "numba", "triton"}
WITHOUT_TORCH = ("tasks", "analysis", "results", "plan", "status", "workflow")
MODULES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"line {node.lineno}: a relative import"
            parts = (f"qablate.{alias.name}" for alias in node.names if alias.name != "__version__")
            names |= set(parts) if node.module == "qablate" else {node.module}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_light_layers_stay_light(path: Path):
    here, imported = part_of(path), imports_of(path)
    for part in (name.split(".")[1] for name in imported if name.startswith("qablate.")):
        assert part == here or LAYERS[part] < LAYERS[here] or LAYERS[part] == LAYERS[here] == 0, f"imports {part}"
    if LAYERS[here] == 0 or here in WITHOUT_TORCH:
        heavy = {name.split(".")[0] for name in imported} & (HEAVY | {"pandas"})
        assert heavy <= ({"pandas"} if here == "analysis" else set())
