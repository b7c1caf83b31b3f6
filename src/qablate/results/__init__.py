"""Results that other systems made, merged with the study's own: `merge(study)` is the one place that says what counts.

Reads leniently, judges strictly, changes nothing in a source folder. Needs neither torch nor numpy.
"""

from qablate.results.judging import state_of
from qablate.results.merging import Merged, merge
from qablate.results.reading import checks_path, has_checkpoint, predictions_problem, read_record
from qablate.results.states import CellState, State, Verdict

__all__ = ["CellState", "Merged", "State", "Verdict", "checks_path", "has_checkpoint", "merge",
           "predictions_problem", "read_record", "state_of"]
