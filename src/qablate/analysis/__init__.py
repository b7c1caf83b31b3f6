"""From results to tables, figures and the report. Imports neither torch nor PennyLane, so it runs on a login node."""

from qablate.analysis.report import make_report

__all__ = ["make_report"]
