"""The report's tables in order: number, title, caption, and the function that makes each from the collected runs.

Captions hold no figures: a number in the report always comes from a CSV.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from qablate.analysis import coverage, inventory, scores
from qablate.analysis.runs import Collection
from qablate.analysis.table import Content, Table

Make = Callable[[Collection], Content]


@dataclass(frozen=True)
class Entry:
    """A table before it is made; `task` limits it to studies that have this task."""

    number: str
    id: str
    title: str
    make: Make
    caption: str
    task: str | None = None
    when_empty: str = "Nothing to list."


MEANS = ("Mean over seeds ± sample standard deviation; n stands beside a mean that lacks planned runs. Diverged runs "
         "are counted beside the mean, never in it.")
COMMON = ("Blocks are the pairs of length and seed that every model with a result has; means over lengths use these "
          "alone, ± the sample standard deviation between blocks.")
PER_SEED = "One run a cell; the last column is the mean over seeds ± sample standard deviation."

ENTRIES = (
    Entry("2", "progress", "Progress", coverage.progress,
          "Cells whose result stands, by system, and planned ones. A cell counts once; diverged runs are finished."),
    Entry("3", "completion", "Completion by model", coverage.completion,
          "Finished of planned cells for each task, then the model's cells by state."),
    Entry("4", "missing_cells", "Cells without a result that stands", coverage.missing_cells,
          "A stale result was made with other settings, an unreadable one is no valid result file.",
          when_empty="Every planned cell is finished."),
    Entry("4b", "failures", "Runs that did not go well", coverage.failures,
          "Diverged: a loss or metric was not finite. No improvement: no epoch beat the starting value, the last "
          "weights were tested. Steps skipped: gradients were not finite although the loss was.",
          when_empty="No finished run diverged, stayed without improvement or skipped a step."),
    Entry("6", "adding_by_length", "Adding Problem: test MSE by length", scores.adding_by_length,
          f"Smaller is better. {MEANS} {COMMON} The last row is the error on the same test items of predicting the "
          "training mean.", "adding_problem"),
    Entry("7", "selective_by_length", "Selective Copy: test R² by length", scores.selective_by_length,
          f"Larger is better; predicting the training mean has zero. {MEANS} {COMMON}", "selective_copy"),
    Entry("7b", "selective_ceiling", "Selective Copy: share of the chunk ceiling", scores.selective_ceiling,
          "The ceiling is the best R² of a model that does not know the order of the steps inside a chunk, E[occupied "
          "chunks] over markers; it does not bind models that see this order. Position accuracy is the share of "
          "outputs within a tenth of the target, sequence accuracy the share of items with all outputs so; both are "
          "means over the common blocks.", "selective_copy"),
    Entry("8", "forrelation_overview", "Forrelation: accuracy beside the majority rate", scores.forrelation_overview,
          f"{COMMON} The majority rate is the accuracy on the same test items of the better constant prediction; a "
          "constant run predicts one class for every test item, counted among the runs that record it. Models are in "
          "the order of their ids, which is no ranking.", "forrelation"),
    Entry("9", "forrelation_by_length", "Forrelation: test accuracy by length", scores.forrelation_by_length,
          f"Larger is better. {MEANS} The last row is the majority rate of the same test splits.", "forrelation"),
    Entry("11a", "per_seed_adding_problem", "Adding Problem: test MSE per seed",
          functools.partial(scores.per_seed, task="adding_problem"), PER_SEED, "adding_problem"),
    Entry("11b", "per_seed_selective_copy", "Selective Copy: test R² per seed",
          functools.partial(scores.per_seed, task="selective_copy"), PER_SEED, "selective_copy"),
    Entry("11c", "per_seed_forrelation", "Forrelation: test accuracy per seed",
          functools.partial(scores.per_seed, task="forrelation"), PER_SEED, "forrelation"),
    Entry("16", "models", "Models", inventory.models,
          "Features and mixing say where a circuit stands; chunk is the number of steps that one circuit or pooled "
          "token covers."),
    Entry("16b", "parameters", "Measured parameter counts", inventory.parameters,
          "As the results report them, for each task (F Forrelation, A Adding Problem, S Selective Copy) and length. "
          "Totals count frozen parameters too and a complex number once."),
    Entry("17", "settings", "Settings", inventory.settings,
          "The study's settings and those stored in the results; older result files record fewer of them."),
    Entry("18", "cost", "Cost", inventory.cost,
          "Seconds per epoch: median over runs of all tasks (each run's median epoch; total time over epochs for "
          "published files). Epochs used: median over runs. Hours are training time on the device named; hours left "
          "are missing cells times the mean of finished ones of the same model, task and length."),
)


def make_tables(collection: Collection) -> dict[str, Table]:
    """Return every table that the study's tasks ask for, by id, in order."""
    return {
        entry.id: Table(entry.number, entry.id, entry.title, entry.caption, entry.when_empty, entry.make(collection))
        for entry in ENTRIES if entry.task is None or entry.task in collection.tasks
    }
