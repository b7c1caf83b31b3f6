"""The command line: every step of the pipeline without Snakemake.

Imports of a command happen when it runs, so that `qablate train --help` answers at once.
"""

import argparse
import contextlib
import errno
import io
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import shtab

from qablate import __version__
from qablate.config import config_schema, merge, options_of, profile_settings
from qablate.errors import MachineError, QablateError, one_line
from qablate.hours import COSTS_PATH
from qablate.jobs import STOPPED_FOR_TIME, allowed_seconds
from qablate.study import Study

INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 1 failed, 2 bad input, 85 stopped for time)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal's encoding fails no command
    options, base = _parser().parse_args(arguments), Path("config.yaml")
    if base.exists() and not any(os.path.exists(file) and base.samefile(file) for file in options.config):
        options.config = [str(base), *options.config]    # as Snakemake lays the files of --configfile over it
    try:
        code = int(options.run(options))
        if options.run is not _train:
            print(end="", flush=True)  # what cannot be written is an error of this command
        elif arguments is None:  # a process of its own: its outcome is valid, whatever comes on the way out
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)
        return code
    except QablateError as error:
        return _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename is not None:    # somebody else's, wherever it was met
            return _end(f"{error.filename}: {error.strerror}", MachineError.exit_code)
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return _end(f"output cannot be written: {error.strerror}", MachineError.exit_code)
    finally:
        _give_up_unwritten()


def _end(reason: str, code: int) -> int:
    """Say why a command ended; return its exit code, whether or not the line could be written."""
    with contextlib.suppress(OSError, ValueError):
        print(f"qablate: {reason}", file=sys.stderr, flush=True)
    return code


def _give_up_unwritten() -> None:
    """Drop what can no longer be printed, or Python would complain at its exit and change the exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Parser(argparse.ArgumentParser):
    """Errors of arguments keep the rules of all error lines."""

    def error(self, message: str) -> NoReturn:
        """Print usage and the error, exit with 2."""
        super().error(one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="qablate", description="The Quantum Hydra/Mamba ablation study.")
    parser.add_argument("--version", action="version", version=f"qablate {__version__}")
    shtab.add_argument_to(parser, help="print what completes words in this shell (docs/running.md)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    dataset = _command(commands, "dataset", _dataset, "Make one dataset; one that is there and sound is left alone.")
    train = _command(commands, "train", _train, "Train one cell and write its result; resumes from its checkpoint.")
    train.add_argument("--model", required=True, help="such as 1b, or a variant of the study such as 1b-tanh")
    for command in (dataset, train):
        command.add_argument("--task", required=True, help="such as selective_copy, or a variant of the study")
        command.add_argument("--length", type=int, required=True, help="steps of a sequence")
        command.add_argument("--seed", type=int, required=True, help="of data, split, weights and training")
    dataset.add_argument("--check", action="store_true", help="also run its leak checks, for the report")
    train.add_argument("--output", type=Path, help="result file (default: its place in the study)")
    train.add_argument("--system", help="name of this system in the result, over the config's")
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], help="over the config's run.device")
    train.add_argument("--max-seconds", type=float, help="wall-clock budget; exits with 85 after a checkpoint")
    _add_status(commands)
    report = _command(commands, "report", _report, "Write tables, figures and the combined report.")
    report.add_argument("--partial", action="store_true", help="from what exists: progress_report.md")
    report.add_argument("--pdf", action="store_true", help="figures as PDF, too")
    imports = _command(commands, "import", _import,
                       "Judge and merge the results of other systems (systems: in config).")
    imports.add_argument("--adopt", action="store_true",
                         help="also copy the sound ones, unchanged, to where the study looks for its own")
    check = _command(commands, "check", _check, "Ask trained models without training: is the circuit used, is it "
                     "entangled, what was there before training (docs/controls.md).")
    check.add_argument("results", nargs="+", type=Path, metavar="RESULT",
                       help="result, or the weights next to it; write these before --config")
    check.add_argument("--seed", type=int, default=0, help="of shuffles, probe, shots and errors (default 0)")
    return parser


def _add_status(commands: Any) -> None:
    parser = _command(commands, "status", _status, "Show what is done, under way and missing, and the hours left.")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--watch", nargs="?", type=float, const=30.0, metavar="SECONDS", help="refresh (default: 30)")
    view.add_argument("--missing", action="store_true", help="one cell per line, as a dry run lists them, for scripts")
    view.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE", "none"), metavar="PROFILE",
                        help="take the settings of a Snakemake profile too, such as the name of the system")
    parser.add_argument("--devices", nargs="+", default=[], metavar="SYSTEM=NAME", help="device of the cost table")
    parser.add_argument("--cost-table", type=Path, default=COSTS_PATH, metavar="FILE", help="default %(default)s")
    parser.add_argument("--no-queue", action="store_true", help="do not ask squeue")


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Add one command with the options that all share: which study."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    config = parser.add_argument(
        "--config", nargs="+", default=["config.yaml"], metavar="FILE",
        help="settings, each file over those before it and all over ./config.yaml, if there is one"
    )
    config.complete = shtab.FILE    # type: ignore[attr-defined]
    parser.add_argument("--set", type=_json_object, default={}, metavar="JSON", help="settings laid over the files")
    return parser


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object such as {\"system\": \"dgx\"}")
    return value


def _study(options: argparse.Namespace, settings: Mapping[str, Any] | None = None) -> Study:
    """The study that the options name; --set lies over `settings`."""
    return Study.load(options.config, merge(settings or {}, options.set))


def _dataset(options: argparse.Namespace) -> int:
    from qablate.tasks.store import make_dataset

    study = _study(options)
    spec = study.require_dataset(options.task, options.length, options.seed)
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


def _train(options: argparse.Namespace) -> int:
    options.set = merge(options.set, {**({"system": options.system} if options.system else {}),
                                      **({"run": {"device": options.device}} if options.device else {})})
    study = _study(options)
    cell = study.cell(options.model, options.task, options.length, options.seed)
    output = options.output or study.result_path(cell)
    if output.name != cell.result_name:
        raise QablateError(f"--output {output}: the result of this cell is named {cell.result_name}")
    if (asked := options.max_seconds) is not None and not 0 < asked < math.inf:
        reason = "not allowed (exclusiveMinimum: 0)" if math.isfinite(asked) else "not of type finite number"
        raise QablateError(f"--max-seconds: {asked} is {reason}")
    seconds = allowed_seconds(options.max_seconds, study.config["run"]["max_seconds"])
    if seconds is not None and seconds <= 0:
        print("the Slurm job around this cell is about to end: not started", flush=True)
        return STOPPED_FOR_TIME
    from qablate.training.cell import train_cell  # torch takes seconds, bad input should not

    return train_cell(study, cell, output, seconds)


def _status(options: argparse.Namespace) -> int:
    from qablate.status.screen import run_status

    return run_status(_study(options, profile_settings(options.profile)), options)


def _report(options: argparse.Namespace) -> int:
    from qablate.analysis import make_report
    from qablate.plan import fingerprint, note_report
    from qablate.results import merge as merge_results
    from qablate.status.slurm_queue import ask_queue

    study = _study(options)
    if options.partial:
        queue = ask_queue(study.cells)
        jobs = {cell: job.state for cell, job in queue.jobs.items()} if queue.reachable else None
        print(make_report(study, True, jobs, options.pdf))
    else:
        made_from = fingerprint(merge_results(study))
        command = shlex.join(["qablate", "report", "--partial", *options_of(options.config, options.set)])
        print(make_report(study, False, None, options.pdf, command))
        note_report(study, made_from)
    return 0


def _check(options: argparse.Namespace) -> int:
    from qablate.checks import check_file

    study = _study(options)
    largest = config_schema()["properties"]["seeds"]["items"]["maximum"]
    if not 0 <= options.seed <= largest:
        raise QablateError(f"--seed: {options.seed} is outside 0..{largest}")
    for path in options.results:
        print(check_file(study, path, options.seed), flush=True)
    return 0


def _import(options: argparse.Namespace) -> int:
    from qablate.results import merge as merge_results
    from qablate.results.outputs import adopt, summary, write_tables

    merged = merge_results(_study(options))
    if options.adopt:
        adopted = adopt(merged)
        merged = merge_results(merged.study)
        print(f"{len(adopted)} results copied to {merged.study.result_folder}")
    index, runs = write_tables(merged)
    print("\n".join([*summary(merged), f"each file: {index}", f"each run: {runs}"]))
    for line in merged.unreadable:
        print(f"qablate: {line}", file=sys.stderr)
    return QablateError.exit_code if merged.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
