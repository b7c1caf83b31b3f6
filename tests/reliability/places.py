"""Disturb a cell at each place of an epoch and go on in processes that have run nothing yet; a program of its own.

`places.py FOLDER WAY KERNELS MODEL...`: WAY is SIGTERM, SIGKILL or budget, KERNELS is numba or torch. Each model's cell
is trained once undisturbed and once with seven disturbances, and what differs is printed, one line a model. All is
imported once and nothing is computed before the forks, so a fork costs little and its caches are empty. A place at
which validation comes first stands before one that trains, so that some process does both in this order.
"""

import os
import signal
import sys
from pathlib import Path

FOLDER, WAY, KERNELS = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if KERNELS == "torch":
    sys.modules["numba"] = None
else:
    import qablate.models.kernels
    import qablate.quantum.compiled
    import qablate.ssm.compiled  # noqa: F401

import harness  # noqa: E402
from tiny import SMALL_MODEL  # noqa: E402

from qablate.results import read_record  # noqa: E402
from qablate.training import cell as cell_module  # noqa: E402
from qablate.training.loop import Training  # noqa: E402

N_BATCHES = 3
PLACES = (
    ("batch", 1, N_BATCHES),         # epoch, call between two batches: after the last batch
    ("batch", 2, N_BATCHES + 1),     # in validation
    ("batch", 3, 1),                 # after the first batch
    ("batch", 4, 2),                 # in the middle
    ("after the last epoch",),
    ("in the test",),
    ("between two files",),
)


class Disturbance:
    """Stops this process, in the way asked for, when it comes to `place`."""

    def __init__(self, place):
        self.place, self.epoch, self.calls, self.interrupts = place, 0, 0, None

    def __call__(self):
        own = self
        save_or_stop, run, test, write = (Training._save_or_stop, Training.run, cell_module.test_outputs,
                                          cell_module.write_predictions)

        def disturbed_save(training, interrupts, save):
            own.interrupts = interrupts
            if own.epoch != training.progress.epoch:
                own.epoch, own.calls = training.progress.epoch, training.progress.batch - 1
            own.calls += 1
            here = own.place == ("batch", own.epoch, own.calls)
            if here and WAY != "SIGKILL":
                own.strike()
            save_or_stop(training, interrupts, save)
            if here:
                own.strike()

        def disturbed_run(training, interrupts, save):
            own.interrupts = interrupts
            run(training, interrupts, save)
            own.at("after the last epoch")

        def disturbed_test(cell_run, between):
            def disturbed_between():
                own.at("in the test")
                between()

            return test(cell_run, disturbed_between)

        def disturbed_write(*arguments, **named):
            written = write(*arguments, **named)
            own.at("between two files")
            return written

        Training._save_or_stop, Training.run = disturbed_save, disturbed_run
        cell_module.test_outputs, cell_module.write_predictions = disturbed_test, disturbed_write

    def at(self, place):
        if self.place == (place,):
            self.strike()

    def strike(self):
        if WAY == "budget":
            self.interrupts.max_seconds, self.interrupts.started = 1, -1e9
        else:
            os.kill(os.getpid(), getattr(signal, WAY))


def forked(place, disturbance=None):
    """Run the cell in a fork; return its exit code, or minus the signal that ended it."""
    process = os.fork()
    if process == 0:
        try:
            harness.run_command(place.folder, place.command(), disturbance)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def disturbed_and_whole(model):
    """Say what differs between the cell disturbed at every place and the same cell left alone."""
    fresh = harness.workplace(FOLDER / f"{model}-whole", model, training={"max_epochs": 4, "batch_size": 32},
                              model=SMALL_MODEL)
    place = harness.copy_of(fresh, FOLDER / f"{model}-parts")
    if forked(fresh) != 0:
        return f"undisturbed: {fresh.log.read_text()[-300:]}"
    for here in PLACES:
        ended = 0 if here == ("between two files",) else 85
        expected = -signal.SIGKILL if WAY == "SIGKILL" else ended
        code = forked(place, Disturbance(here))
        if code != expected:
            return f"{here} ended with {code}, not {expected}: {place.log.read_text()[-300:]}"
    code = forked(place)
    if code != 0:
        return f"the last run ended with {code}: {place.log.read_text()[-300:]}"
    if place.files() != fresh.files():
        return "other numbers"
    kernels = set(read_record(place.output)["provenance"]["kernels"].values())
    return "equal" if kernels <= {KERNELS} else f"computed by {kernels}"


for model_id in sys.argv[4:]:
    print(model_id, disturbed_and_whole(model_id), flush=True)
