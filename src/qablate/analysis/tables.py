"""The report's tables in order: number, title, caption, and the function that makes each from the collected runs.

Captions hold no figures: a number in the report always comes from a CSV.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from qablate.analysis import (
    comparisons,
    coverage,
    datasets,
    inventory,
    legacy,
    replication,
    reproduction,
    scores,
    spending,
    systems,
)
from qablate.analysis import (
    old_bounds as bounds,
)
from qablate.analysis.formats import METRIC_NAMES
from qablate.analysis.old_table import Content, Table
from qablate.analysis.runs import Collection
from qablate.catalog import task_info

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


TASKS = ("adding_problem", "selective_copy", "forrelation")
MEANS = ("Mean over seeds ± sample standard deviation; n stands beside a mean that lacks planned runs. Diverged runs "
         "are counted beside the mean, never in it.")
COMMON = ("Blocks are the pairs of length and seed that every model with a result has; means over lengths use these "
          "alone, ± the sample standard deviation between blocks.")
PER_SEED = "One run a cell; the last column is the mean over seeds ± sample standard deviation."

COMPARED = ("Each model's mean over the blocks (length and seed) that every model with a result has, then the mean of "
            "these ± their sample standard deviation; accuracy for Forrelation, R² for the others, as published. One "
            "model never stands for its kind. Runs, planned and coverage count all cells of the kind; in brackets: "
            "below half.")
SCALING = ("Means at both ends over the seeds that have both; the change is of these, unrounded. The slope is that of "
           "log score on log length by least squares, for each seed that has every length and positive scores, its "
           "mean ± the sample standard deviation. The chunk is the number of steps that a model reads as one.")
NO_SCORE = "No run has a score that may enter a mean."
REPRODUCTION = ("Published runs only, of the system named, as many as the document's value rests on; a mean over "
                "other runs is no reproduction. Equal means equal when rounded as printed, for a lower bound that it "
                "holds. Forrelation here is the biased score, and planned runs are those of this study.")

ENTRIES = (
    Entry("1", "systems", "Systems", systems.systems,
          "Valid: cells whose result stands, in files of this system, used or not; planned: cells of the study. The "
          "other columns count files by verdict; a file whose score was selected on its test items is not valid.",
          when_empty="No system has a file of this study."),
    Entry("2", "progress", "Progress", coverage.progress,
          "Cells whose result stands, by system, and planned ones. A cell that several systems have counts for each of "
          "them and once as finished; diverged runs are finished."),
    Entry("3", "completion", "Completion by model", coverage.completion,
          "Finished of planned cells for each task, then the model's cells by state."),
    Entry("4", "missing_cells", "Cells without a result that stands", coverage.missing_cells,
          "No score: the file was cut off before its test score. Selected on test: the epoch was chosen on the test "
          "items, which is no honest score. Quarantined: made with other data. Rejected: breaks a rule of the import. "
          "Stale: made with other settings. Unreadable: no valid result file. Hours by seconds per epoch and epochs "
          "of results at hand, else of the cost table (the CSV says which); they are an estimate.",
          when_empty="Every planned cell is finished."),
    Entry("4a", "hours_left", "Hours that are left", coverage.hours_left,
          "The estimates of the table above, added; cells of unknown cost are not in the sum.",
          when_empty="No hours are left: every planned cell is finished."),
    Entry("4b", "failures", "Runs that did not go well", coverage.failures,
          "Diverged: a loss or metric was not finite. No improvement: no epoch beat the starting value, the last "
          "weights were tested. Partial: the file was cut off, its score recovered. Steps skipped: gradients "
          "were not finite although the loss was.",
          when_empty="No finished run diverged, stayed without improvement or skipped a step."),
    Entry("5", "queue", "Jobs in the queue", systems.queue,
          "The scheduler's jobs of this study as it told them when this report was made, beside the missing cells.",
          when_empty="No scheduler was asked or reached, so nothing is said of its queue; what checkpoints and logs "
          "tell is in the table of cells without a result."),
    Entry("6", "adding_by_length", "Adding Problem: test MSE by length",
          functools.partial(scores.scores_by_length, task="adding_problem", mean_r2=True, baseline=True),
          f"Smaller is better. {MEANS} {COMMON} The last row is the error on the same test items of predicting the "
          "training mean.", "adding_problem"),
    Entry("7", "selective_by_length", "Selective Copy: test R² by length",
          functools.partial(scores.scores_by_length, task="selective_copy", mean_r2=True),
          f"Larger is better; predicting the training mean has zero. {MEANS} {COMMON}", "selective_copy"),
    Entry("7b", "selective_ceiling", "Selective Copy: share of the chunk ceiling", scores.selective_ceiling,
          "The ceiling is the best R² of a model that does not know the order of the steps inside a chunk, E[occupied "
          "chunks] over markers; models that see this order have no such ceiling. Position accuracy is the share of "
          "outputs within a tenth of the target, sequence accuracy the share of items with all outputs so; both are "
          "means over the common blocks.", "selective_copy"),
    Entry("8", "forrelation_overview", "Forrelation: accuracy beside the majority rate", scores.forrelation_overview,
          f"{COMMON} The majority rate is the accuracy on the same test items of the better constant prediction; a "
          "constant run predicts one class for every test item, counted among the runs that record it. Models are in "
          "the order of their ids, which is no ranking.", "forrelation"),
    Entry("9", "forrelation_by_length", "Forrelation: test accuracy by length",
          functools.partial(scores.scores_by_length, task="forrelation", baseline=True),
          f"Larger is better. {MEANS} The last row is the majority rate of the same test splits.", "forrelation"),
    Entry("10", "legacy_forrelation", "Forrelation: legacy accuracy, biased, selected on the test items",
          legacy.legacy_forrelation,
          "The best epoch was chosen on the items it is reported on, so that a model without any signal comes out "
          "above a half: the last rows say how far, by simulation at nine runs, between epochs that are independent "
          "and epochs that are alike. In no other table, no ranking. Ended early: our run stopped before the published "
          "rule would have.", "forrelation", "No run reports a score selected on its test items."),
    *(Entry(f"11{letter}", f"per_seed_{task}",
            f"{task_info(task).title}: {METRIC_NAMES[task_info(task).metric]} per seed",
            functools.partial(scores.per_seed, task=task), PER_SEED, task)
      for letter, task in zip("abc", TASKS, strict=True)),
    Entry("12", "architectures", "Architectures", functools.partial(comparisons.kinds_of_models, key="architecture"),
          COMPARED, when_empty=NO_SCORE),
    Entry("13", "groups", "Groups", functools.partial(comparisons.kinds_of_models, key="group"),
          COMPARED, when_empty=NO_SCORE),
    *(Entry(f"14{letter}", f"scaling_{task}", f"{task_info(task).title}: from the shortest to the longest sequences",
            functools.partial(comparisons.scaling, task=task), SCALING, task,
            "No model has runs of the shortest and the longest sequences with the same seed.")
      for letter, task in zip("abc", TASKS, strict=True)),
    Entry("15a", "references", "Floors, marks and ceilings", bounds.floors_and_ceilings,
          "In the task's own metric. Floor: a constant prediction. Mark: what one part of the task is worth. Ceiling: "
          "everything that the task, or a model that cannot tell the steps inside a chunk apart, allows. For "
          "Forrelation the mean test accuracy of three solvers on the published datasets, by the two tables of values "
          "that a sequence fills in; all other values are closed forms."),
    Entry("15b", "shares", "Share of the way from floor to ceiling", bounds.shares_of_way,
          "Mean over seeds; zero at the floor, whole at the ceiling, negative below the floor. The ceiling is the "
          "model's own where it has one; a task without a known ceiling is left out. n stands where runs are missing; "
          "the spread is in the CSV, single runs are in tables/shares_by_run.csv.",
          when_empty="No run has a score and a ceiling to hold it against."),
    Entry("15c", "selection_floors", "Forrelation: floor of a score selected on its own items",
          bounds.floors_of_selection,
          "What models at exact chance report when the best epoch is chosen on the items it is reported on, by "
          "simulation. How alike neighbouring epochs are is not known, so that each row assumes a correlation.",
          "forrelation"),
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
    Entry("18a", "cost_by_model", "Cost of the finished cells, beside the plan and the published code",
          spending.cost_by_model,
          "Spent: training time, which on a machine that others use too is more than the work. Planned: what "
          "workflow/costs.csv gave these cells on the same device. Published code: its seconds per epoch on an A100 "
          "times the epochs that these runs used; in brackets where its seconds are estimates, good to a factor of "
          "about two.", when_empty="No cell is finished."),
    Entry("19", "reproduction_summary", "Published numbers computed again: how many agree",
          reproduction.reproduction_summary, REPRODUCTION,
          when_empty="Not made: this is not the published study."),
    Entry("19a", "reproduction", "Published numbers computed again, one by one", reproduction.reproduction,
          "Those that differ first, then equal ones, then those that cannot be recomputed, with the reason.",
          when_empty="Not made: this is not the published study."),
    Entry("19b", "replication", "New runs beside the published means", replication.new_runs_beside_published,
          "Runs trained with this package, of the same cells. They agree with a printed mean if R² is within five "
          "hundredths, MSE within a factor of three or both below five ten-thousandths, accuracy within two percentage "
          "points. Forrelation: the biased score by the published rule, over the lengths that were run; the printed "
          "mean is over three lengths.",
          when_empty="No run of this package has a published mean beside it."),
    Entry("20", "cross_system", "Cells that were trained more than once", systems.cross_system,
          "The primary test metric of two results of one cell, copies of one run left out; one of them is used by "
          "declared order, never an average. Difference: other value minus value.",
          when_empty="No cell has two results with different numbers."),
    Entry("21", "import_counts", "Files by verdict", systems.import_counts,
          "Every file of the results folder and of the systems named in the settings.",
          when_empty="No file was found."),
    Entry("21a", "import_log", "Files that are not used as they are", systems.import_log,
          "Refused ones first. Partial: cut off while it was written, scores recovered where the file or its log has "
          "them. Duplicate: another result of the cell is used. Files of sound results are counted above only.",
          when_empty="Every file is a sound result and used."),
    Entry("22", "datasets", "Datasets, baselines and leak checks", datasets.datasets,
          "The baseline is the best constant prediction on the test split: the majority rate, or the error of the "
          "training mean. Leak checks are those that `qablate dataset --check` has run on the file."),
)


def make_tables(collection: Collection) -> dict[str, Table]:
    """Return every table that the study's tasks ask for, by id, in order."""
    return {
        entry.id: Table(entry.number, entry.id, entry.title, entry.caption, entry.when_empty, entry.make(collection))
        for entry in ENTRIES if entry.task is None or entry.task in collection.tasks
    }