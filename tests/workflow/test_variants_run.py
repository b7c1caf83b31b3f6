"""Variants of models and tasks through the workflow: their datasets, jobs, targets, and what a redefined tag trains."""

from collections.abc import Callable

import yaml
from conftest import TINY, Workspace

VARIANTS = {
    "models": ["1b", "1b-tanh"], "seeds": [1],
    "variants": {"tanh": {"model": {"circuit": "tanh"}}},
    "task_variants": {"n3": {"forrelation": {"n_bits": 3}}, "more": {"forrelation": {"n_train": 160}}},
    "tasks": {"adding_problem": {"lengths": [16]}, "forrelation-n3": {"lengths": [16]},
              "forrelation-n3-more": {"lengths": [16]}},
}


def test_a_redefined_tag_trains_its_cells_again(new_workspace: Callable[..., Workspace]) -> None:
    space = new_workspace({**TINY, **VARIANTS})
    first = space.snakemake("-c1", "--until", "train")
    assert first.code == 0, first.text
    study = space.study
    assert all(study.result_path(cell).exists() and study.dataset_path(cell).exists() for cell in study.cells)
    assert len(first.cells) == len(study.cells) == 6
    assert "6 done, 0 to train" in space.snakemake("-n").text
    config = {**yaml.safe_load((space.folder / "config.yaml").read_text()),
              "variants": {"tanh": {"model": {"circuit": "linear"}}}}
    (space.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    again = space.snakemake("-n")
    assert {cell.model for cell in again.cells} == {"1b-tanh"}
    assert set(again.cells.values()) == {"stale"}
    target = study.result_path(next(iter(again.cells))).relative_to(space.folder)
    assert space.snakemake("-n", str(target)).train_jobs == 1
