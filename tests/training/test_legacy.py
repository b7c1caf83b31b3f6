"""The published, biased Forrelation score."""

import pytest

from qablate.training.record import legacy_score


def score(validation, test, **changes):
    settings = {"n_validation": 500, "n_test": 500, "patience": 3, "max_epochs": 100, **changes}
    return legacy_score([correct / 500 for correct in validation], test, **settings)


def test_best_epoch_over_both_halves():
    result = score([250, 260, 240, 250, 251], [250, 250, 290, 200, 200])
    assert result["legacy_acc_selected_on_holdout"] == pytest.approx(0.53)
    assert result["epoch"] == 3
    assert result["legacy_censored"] is True     # stopped by us before three epochs without improvement


def test_the_published_rule_stops_even_if_we_went_on():
    result = score([260, 250, 250, 250, 400], [250, 250, 250, 250, 400])
    assert result["epoch"] == 1
    assert result["legacy_censored"] is False


def test_a_run_to_the_last_epoch_is_not_censored():
    assert score([250, 251], [250, 252], max_epochs=2)["legacy_censored"] is False


def test_nothing_right_gives_no_score():
    assert score([0, 0], [0, 0]) is None
