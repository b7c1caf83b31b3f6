"""Results that other systems made, merged with the study's own: `merge(study)` is the one place that says what counts.

Reads leniently, judges strictly, changes nothing in a source folder. Needs neither torch nor numpy.
"""

from qablate.importing.merging import Merged, merge, require_readable
from qablate.importing.verdicts import Found, Pair, Run, Verdict

__all__ = ["Found", "Merged", "Pair", "Run", "Verdict", "merge", "require_readable"]
