"""`qablate status`: which of its views is asked for, and printing it."""

import argparse
import contextlib
import json

from qablate.config import known_systems
from qablate.errors import QablateError
from qablate.hours import COSTS_PATH, CostTable
from qablate.status.screen import console, missing_lines, screen, to_json, watch
from qablate.status.survey import Survey, survey
from qablate.study import Study


def run_status(study: Study, options: argparse.Namespace) -> int:
    """Print what the options ask for; return the exit code."""
    table = CostTable.at_hand() if options.cost_table == COSTS_PATH else CostTable.read(options.cost_table)
    devices = _by_system(study, "--devices", options.devices)

    def take() -> Survey:
        return survey(study, table, devices, ask_slurm=not options.no_queue)

    if options.watch is not None:
        if not 1 <= options.watch <= 86400:
            raise QablateError(f"--watch {options.watch:g}: seconds between two looks, 1 to 86400")
        with contextlib.suppress(KeyboardInterrupt):
            watch(take, options.watch)
    elif options.missing:
        print("".join(f"{line}\n" for line in missing_lines(take())), end="")
    elif options.json:
        print(json.dumps(to_json(take()), indent=2, allow_nan=False))
    else:
        console().print(screen(take()))
    return 0


def _by_system(study: Study, option: str, texts: list[str]) -> dict[str, str]:
    """Read `dgx=NVIDIA GB10 ...`; the systems are those that the study's config names."""
    known, found = known_systems(study.config), {}
    for text in texts:
        system, _, value = text.partition("=")
        if not value:
            raise QablateError(f"{option} {text}: must be SYSTEM=VALUE")
        if system not in known:
            raise QablateError(f"{option} {text}: no system of this study; known are {', '.join(sorted(known))}")
        found[system] = value
    return found
