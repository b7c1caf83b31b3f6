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


def signed(digits: int) -> Format:
    """Return a format with a fixed number of decimals that always shows the sign, except of zero."""
    return fixed(digits, "+")


def change(value: float) -> str:
    """Write a difference: sign and three significant digits, a whole number as such; zero has no sign."""
    if float(value).is_integer():
        return f"{value:+,.0f}" if value else "0"
    return ("+" if value > 0 else "") + significant(value)


def percent(value: float) -> str:
    """Write a share as percent, one decimal: 0.5 is `50.0 %`."""
    return f"{100 * value:.1f} %"


def integer(value: float) -> str:
    """Write a whole number with commas between thousands."""
    return f"{round(value):,}"


def whole(value: float) -> str:
    """Write a whole number without separators: seeds, lengths, groups."""
    return f"{round(value)}"


METRIC_FORMATS: dict[str, Format] = {"test_mse": significant, "test_r2": fixed(3), "test_acc": fixed(4)}
def metric_format(metric: str) -> Format:
    """Return how scores of a metric are written: three significant digits for one that is not known here."""
    return METRIC_FORMATS.get(metric, significant)


def metric_name(metric: str) -> str:
    """Return a metric in words: `test R²`."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


METRIC_NAMES = {"test_mse": "test MSE", "test_r2": "test R²", "test_acc": "test accuracy"}
