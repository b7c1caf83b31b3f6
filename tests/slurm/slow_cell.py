"""The real command line on a machine that is slow or hangs: some cells sleep in each batch, some for ever in one.

QABLATE_TEST_SLOW and QABLATE_TEST_HANG name cells. A cell hangs in its sixth batch, once: a file `hung` notes that.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from qablate.cli import main

SECONDS_PER_BATCH = 2.0
HANGING_BATCH = 6


def slow_down(name: str) -> None:
    """Make the training of this process slow or let it hang, if its cell is named."""
    from qablate.training.loop import TrainingStep

    batch, taken = TrainingStep.__call__, 0

    def slowly(self: TrainingStep, *arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if name in os.environ.get("QABLATE_TEST_SLOW", "").split():
            time.sleep(SECONDS_PER_BATCH)
        hung = Path(f"hung_{name}")
        if taken == HANGING_BATCH and name in os.environ.get("QABLATE_TEST_HANG", "").split() and not hung.exists():
            hung.touch()
            parent = os.getppid()
            while os.getppid() == parent:    # deaf to SIGTERM; once the job is gone, cgroups would end it, missing here
                time.sleep(1)
            sys.exit("the job is gone")
        return batch(self, *arguments)

    TrainingStep.__call__ = slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1] == "train":
        output = Path(sys.argv[sys.argv.index("--output") + 1]).name
        slow_down(output.removeprefix("synthetic_").removesuffix("_results.json"))
    sys.exit(main())
