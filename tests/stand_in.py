"""The command line, but for what takes long: it writes valid results instead of training, a word instead of a report.

Like the trainer it leaves a valid result alone, keeps what it replaces, and makes a dataset that is missing.

A cell takes as long as there is a file `gate`, then QABLATE_FAKE_SECONDS (default: no time), and notes in `noted/` when
and on which device it ran. Other environment variables name the cell that something happens to: QABLATE_FAKE_FAIL (it
fails), QABLATE_FAKE_STOP (it stops for time, once), QABLATE_FAKE_DIE (it is killed as soon as its result is written).
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import factories

from qablate import cli
from qablate.files import put_in_place, write_atomic
from qablate.plan import fingerprint, note_report
from qablate.records import write_record
from qablate.results import merge, state_of
from qablate.study import Cell


def make_dataset(options: argparse.Namespace) -> int:
    study = cli._study(options)
    path = study.dataset(options.task, options.length, options.seed).path(study.results)
    write_atomic(path, b"a dataset")
    return 0


def train(options: argparse.Namespace) -> int:
    study = cli._study(options)
    cell = study.cell(options.model, options.task, options.length, options.seed)
    options.output = options.output or study.result_path(cell)
    print(f"training {cell.name} on system {study.system}", flush=True)
    if cell.name == os.environ.get("QABLATE_FAKE_FAIL"):
        print("out of memory, says the stand-in", file=sys.stderr)
        return 1
    checkpoint = Path("checkpoint")
    if cell.name == os.environ.get("QABLATE_FAKE_STOP") and not checkpoint.exists():
        checkpoint.touch()
        return 85
    if state_of(study, cell).state.finished:
        return 0
    if not study.dataset_path(cell).exists():
        make_dataset(options)
    take_time(cell)
    write_record(options.output, factories.record_of(study, cell), lambda path, content: put_in_place(
        path, content, study.superseded, lambda: state_of(study, cell).state.finished))    # it may have come meanwhile
    if cell.name == os.environ.get("QABLATE_FAKE_DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def take_time(cell: Cell) -> None:
    began = time.time()
    while Path("gate").exists():
        time.sleep(0.1)
    time.sleep(float(os.environ.get("QABLATE_FAKE_SECONDS", "0")))
    noted = {"cell": cell.name, "model": cell.model, "device": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began,
             "ended": time.time()}
    Path("noted").mkdir(exist_ok=True)
    Path(f"noted/{cell.name}.json").write_text(json.dumps(noted))


def report(options: argparse.Namespace) -> int:
    study = cli._study(options)
    stem, made_from = "progress" if options.partial else "combined", fingerprint(merge(study))
    for ending in ("md", "html"):
        (study.results / f"{stem}_report.{ending}").write_text(f"{len(list(study.result_folder.glob('*.json')))} cells")
    if not options.partial:
        note_report(study, made_from)
    return 0


if __name__ == "__main__":
    cli._dataset, cli._train, cli._report = make_dataset, train, report
    sys.exit(cli.main())
