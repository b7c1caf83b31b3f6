"""How numbers are written in the report; the CSV files keep them unrounded."""

import math
from collections.abc import Callable

DASH = "–"
Format = Callable[[float], str]


def significant(value: float, digits: int = 3) -> str:
    """Write `digits` significant digits; scientific below 1e-3 and from 1e5: `0.0123`, `3.12e-4`."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if -4 < exponent < 5:
        return f"{rounded:.{max(0, digits - 1 - exponent)}f}"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(power)}"


def fixed(digits: int, plus: str = "") -> Format:
    """Return a format with so many decimals and `plus` before positive numbers; what rounds to zero has no sign."""
    def show(value: float) -> str:
        text = f"{value:{plus}.{digits}f}"
        return text.lstrip("+-") if float(text) == 0 else text

    return show


METRIC_FORMATS: dict[str, Format] = {"test_mse": significant, "test_r2": fixed(3), "test_acc": fixed(4)}
METRIC_NAMES = {"test_mse": "test MSE", "test_r2": "test R²", "test_acc": "test accuracy"}


def metric_format(metric: str) -> Format:
    """Return how scores of a metric are written: three significant digits for one that is not known here."""
    return METRIC_FORMATS.get(metric, significant)


def metric_name(metric: str) -> str:
    """Return a metric in words: `test R²`."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))
