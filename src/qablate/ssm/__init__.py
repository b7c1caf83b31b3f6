"""Selective state-space scans: the recurrence of Mamba, forward and backward, on every backend."""

from qablate.ssm.scan import SCAN_BACKENDS, scan_name, selective_scan

__all__ = ["SCAN_BACKENDS", "scan_name", "selective_scan"]
