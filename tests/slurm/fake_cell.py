"""A stand-in for the command line: notes when and on which device a cell ran, and writes a valid result of it.

QABLATE_FAKE_SECONDS is how long a cell takes (default: no time).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import factories

from qablate.records import write_record
from qablate.study import Study


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["dataset", "train", "report"])
    parser.add_argument("--config", nargs="+")
    parser.add_argument("--set", type=json.loads, default={})
    parser.add_argument("--partial", action="store_true")
    kinds = {"model": str, "task": str, "length": int, "seed": int, "output": Path, "max-seconds": float}
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind)
    options = parser.parse_args()
    study = Study.load(options.config, options.set)
    {"dataset": make_dataset, "train": train, "report": report}[options.command](study, options)
    return 0


def make_dataset(study: Study, options: argparse.Namespace) -> None:
    path = study.dataset(options.task, options.length, options.seed).path(study.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a dataset")


def train(study: Study, options: argparse.Namespace) -> None:
    cell = study.cell(options.model, options.task, options.length, options.seed)
    began = time.time()
    time.sleep(float(os.environ.get("QABLATE_FAKE_SECONDS", "0")))
    noted = {"cell": cell.name, "model": cell.model, "device": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began,
             "ended": time.time()}
    Path("noted").mkdir(exist_ok=True)
    Path(f"noted/{cell.name}.json").write_text(json.dumps(noted))
    write_record(options.output, factories.record_of(study, cell))


def report(study: Study, options: argparse.Namespace) -> None:
    count = len(list(study.result_folder.glob("*.json")))
    for ending in ("md", "html"):
        (study.results / f"combined_report.{ending}").write_text(f"{count} cells")


if __name__ == "__main__":
    sys.exit(main())
