"""Parameter counts of every model on every task and length, to the unit."""

import pytest
from goldens import PUBLISHED

from qablate.catalog import MODELS
from qablate.models import ModelSettings, build_model, parameter_counts, published_tensors

COLUMNS = (
    *((14, length, 2) for length in (50, 100, 200)),
    *((2, length, 1) for length in (100, 200, 500, 1000)),
    *((2, length, 8) for length in (100, 200, 500, 1000)),
)
TOTAL = """
1a 337291 337675 338443 335074 335842 338274 342242 335977 336745 339177 343145
1b 423395 423395 423395 421730 421730 421730 421730 422633 422633 422633 422633
1c 911630 911630 911630 909965 909965 909965 909965 910868 910868 910868 910868
2a 37473 37476 37482 35811 35817 35836 35867 36714 36720 36739 36770
2d 47653 47653 47653 46052 46052 46052 46052 46507 46507 46507 46507
2e 73183 73183 73183 71582 71582 71582 71582 72037 72037 72037 72037
3a 339202 345602 358402 343937 356737 395137 459137 344840 357640 396040 460040
3b 235522 235522 235522 233857 233857 233857 233857 234760 234760 234760 234760
3c 233922 233922 233922 232321 232321 232321 232321 232776 232776 232776 232776
4a 41410 41410 41410 36737 36737 36737 36737 37192 37192 37192 37192
4d 57799 57799 57799 53126 53126 53126 53126 53581 53581 53581 53581
4e 91069 91069 91069 86396 86396 86396 86396 86851 86851 86851 86851
"""
TRAINABLE = """
1a 336779 336779 336779 334178 334178 334178 334178 335081 335081 335081 335081
3a 332802 332802 332802 331137 331137 331137 331137 332040 332040 332040 332040
"""


def rows(table):
    """Model id -> counts in the order of COLUMNS."""
    return {
        line.split()[0]: [int(word) for word in line.split()[1:]] for line in table.strip().splitlines()
    }


def count_formula(model_id, channels, length, outputs):
    """The published counts as functions of the shape of the task."""
    c, o, k16, h = channels - 2, outputs - 2, -(-length // 16), channels // 2
    return {
        "1a": channels**2 + channels + channels * h + 2 * h + 1 + 180 * channels + 366 + 333312
        + 128 * k16 + 129 * outputs,
        "1b": 421859 + 128 * c + 129 * o,
        "1c": 910094 + 128 * c + 129 * o,
        "2a": 35933 + k16 + 128 * c + 129 * o,
        "2d": 46117 + 128 * c + 65 * o,
        "2e": 71647 + 128 * c + 65 * o,
        "3a": 331266 + 128 * length + 128 * c + 129 * o,
        "3b": 233986 + 128 * c + 129 * o,
        "3c": 232386 + 128 * c + 65 * o,
        "4a": 36802 + 384 * c + 65 * o,
        "4d": 53191 + 384 * c + 65 * o,
        "4e": 86461 + 384 * c + 65 * o,
    }[model_id]  # fmt: skip


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_counts_of_the_published_study(model_id):
    total, trainable = rows(TOTAL)[model_id], rows(TRAINABLE).get(model_id, rows(TOTAL)[model_id])
    for shape, expected in zip(COLUMNS, zip(total, trainable, strict=True), strict=True):
        assert parameter_counts(build_model(model_id, *shape)) == expected, shape
        assert count_formula(model_id, *shape) == expected[0], shape


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_counts_of_other_shapes(model_id):
    for shape in ((3, 37, 5), (7, 64, 2)):
        assert parameter_counts(build_model(model_id, *shape))[0] == count_formula(model_id, *shape)


@pytest.mark.parametrize("model_id", MODELS)
def test_published_order_lists_every_parameter_once(model_id):
    for settings in (ModelSettings(), ModelSettings(chunk=8)):
        model = build_model(model_id, 2, 40, 1, settings)
        names = [name for name, _ in published_tensors(model)]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
