"""Measurements of the machine at hand, and what a study costs on it."""

from qablate.bench.measure import PARTS, BenchOptions, run_bench
from qablate.bench.planning import measure_costs, plan_hours

__all__ = ["PARTS", "BenchOptions", "measure_costs", "plan_hours", "run_bench"]
