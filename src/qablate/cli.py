"""The command line: every step of the pipeline without Snakemake.

Imports of a command happen when it runs, so that `qablate train --help` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qablate import __version__
from qablate.costs import COSTS_PATH
from qablate.errors import QablateError
from qablate.jobs import STOPPED_FOR_TIME, allowed_seconds
from qablate.study import Cell, Study

INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 failed, 2 bad input, 85 stopped for time)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except QablateError as error:
        print(f"qablate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("qablate: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its exit
        return BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qablate", description="The Quantum Hydra/Mamba ablation study.")
    parser.add_argument("--version", action="version", version=f"qablate {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_dataset(commands)
    _add_train(commands)
    _add_status(commands)
    _add_report(commands)
    _add_power(commands)
    _add_import(commands)
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Add one command with the options that all share: which study."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--config", nargs="+", default=["config.yaml"], metavar="FILE", help="settings, each file over those before it"
    )
    parser.add_argument("--set", type=_json_object, default={}, metavar="JSON", help="settings laid over the files")
    return parser


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object such as {\"system\": \"dgx\"}")
    return value


def _study(options: argparse.Namespace) -> Study:
    return Study.load(options.config, options.set)


def _add_dataset(commands: Any) -> None:
    parser = _command(commands, "dataset", _dataset, "Make one dataset; one that is there and sound is left alone.")
    parser.add_argument("--task", required=True)
    parser.add_argument("--length", type=int, required=True, help="steps of a sequence")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--check", action="store_true", help="also run its leak checks, for the report")


def _dataset(options: argparse.Namespace) -> int:
    from qablate.tasks.store import make_dataset

    study = _study(options)
    wanted = (options.task, options.length, options.seed)
    spec = next((spec for spec in study.datasets if (spec.task, spec.length, spec.seed) == wanted), None)
    if spec is None:
        raise QablateError(f"task {wanted[0]}, length {wanted[1]}, seed {wanted[2]}: not in study '{study.name}'")
    path = spec.path(study.results)
    dataset = make_dataset(spec, path)
    print(f"{path}: {dataset.sha256}")
    if not options.check:
        return 0
    from qablate.tasks.checks import write_checks

    checks = write_checks(dataset, path.with_suffix(".checks.json"))
    for check in checks:
        print(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.value:.4g} ({check.bound})")
    return 0 if all(check.passed for check in checks) else QablateError.exit_code


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "Train one cell and write its result; resumes from its checkpoint.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--length", type=int, required=True, help="steps of a sequence")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, help="result file (default: its place in the study)")
    parser.add_argument("--system", help="name of this system in the result, over the config's")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="over the config's run.device")
    parser.add_argument("--max-seconds", type=float, help="wall-clock budget; exits with 85 after a checkpoint")


def _train(options: argparse.Namespace) -> int:
    system = {"system": options.system} if options.system else {}
    study = Study.load(options.config, {**_with_device(options), **system})
    cell = study.cell(options.model, options.task, options.length, options.seed)
    output = options.output or study.result_path(cell)
    if output.name != cell.result_name:
        raise QablateError(f"--output {output}: the result of this cell is named {cell.result_name}")
    seconds = allowed_seconds(options.max_seconds, study.config["run"]["max_seconds"])
    if seconds is not None and seconds <= 0:
        print("the Slurm job around this cell is about to end: not started", flush=True)
        return STOPPED_FOR_TIME
    from qablate.training.cell import train_cell  # torch takes seconds, bad input should not

    return train_cell(study, cell, output, seconds)


def _add_status(commands: Any) -> None:
    parser = _command(commands, "status", _status, "Show what is done, under way and missing, and the hours left.")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--watch", nargs="?", type=float, const=30.0, metavar="SECONDS", help="refresh (default: 30)")
    view.add_argument("--missing", action="store_true", help="one cell a line, as a dry run lists them, for scripts")
    view.add_argument("--json", action="store_true", help="everything, for programs")
    view.add_argument("--suggest-split", action="store_true", help="divide what is missing among the systems by cost")
    view.add_argument("--curves", metavar="CELL", help="learning curves of a cell (or of a file named after it)")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the curves into a PNG")
    parser.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE"), metavar="FOLDER",
                        help="take the settings of a Snakemake profile too, such as the name of the system")
    parser.add_argument("--slots", nargs="+", default=[], metavar="SYSTEM=N", help="cells a system trains side by side")
    parser.add_argument("--devices", nargs="+", default=[], metavar="SYSTEM=NAME", help="device of the cost table")
    parser.add_argument("--cost-table", type=Path, default=COSTS_PATH, metavar="FILE", help="default %(default)s")
    parser.add_argument("--no-queue", action="store_true", help="do not ask squeue")


def _status(options: argparse.Namespace) -> int:
    from qablate.config import merge, profile_settings
    from qablate.status.command import run_status

    settings = profile_settings(Path(options.profile)) if options.profile else {}
    return run_status(Study.load(options.config, merge(settings, options.set)), options)


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", _report, "Write tables, figures and the combined report.")
    parser.add_argument("--partial", action="store_true", help="from what exists: progress_report.md")
    parser.add_argument("--pdf", action="store_true", help="figures as PDF, too")


def _report(options: argparse.Namespace) -> int:
    from qablate.analysis import make_report

    study = _study(options)
    print(make_report(study, options.partial, _jobs(study) if options.partial else None, options.pdf))
    return 0


def _jobs(study: Study) -> dict[Cell, str] | None:
    """Cells in the Slurm queue, None where there is none that answers."""
    from qablate.status.slurm_queue import ask_queue

    queue = ask_queue(study.cells)
    return {cell: job.state for cell, job in queue.jobs.items()} if queue.reachable else None


def _add_power(commands: Any) -> None:
    parser = _command(commands, "power", _power, "Say what would decide the open claims, and what that costs.")
    parser.add_argument("claim", nargs="?", metavar="CLAIM", help="id of one, in detail (default: a table of all)")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--device", metavar="NAME", help="of the cost table, for the hours (default: the study's)")


def _power(options: argparse.Namespace) -> int:
    from qablate.analysis.findings import report_power

    print(report_power(_study(options), options.claim, options.json, options.device))
    return 0


def _add_import(commands: Any) -> None:
    parser = _command(commands, "import", _import, "Judge and merge the results of other systems (systems: in config).")
    parser.add_argument("--adopt", action="store_true",
                        help="also copy the sound ones, unchanged, to where the study looks for its own")


def _import(options: argparse.Namespace) -> int:
    from qablate.importing.merging import merge
    from qablate.importing.outputs import adopt, summary, write_tables

    merged = merge(_study(options))
    if options.adopt:
        adopted = adopt(merged)
        merged = merge(merged.study)
        print(f"{len(adopted)} results copied to {merged.study.result_folder}")
    index, runs = write_tables(merged)
    print("\n".join([*summary(merged), f"each file: {index}", f"each run: {runs}"]))
    for line in merged.unreadable:
        print(f"qablate: {line}", file=sys.stderr)
    return QablateError.exit_code if merged.unreadable else 0


def _with_device(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the command line, with its --device among them."""
    from qablate.config import merge

    return merge(options.set, {"run": {"device": options.device}} if options.device else {})


if __name__ == "__main__":
    sys.exit(main())
