"""The published Forrelation score, biased on purpose: the best epoch chosen on the items it is reported on.

The counts on the test half are computed by a function whose output only lands in `Progress.legacy_correct`; stopping,
selection and learning rate never read that list.
"""

from typing import Any

NAME = "legacy_acc_selected_on_holdout"


def legacy_score(
    validation_accuracy: list[float | None], test_correct: list[int], n_validation: int, n_test: int, patience: int,
    max_epochs: int,
) -> dict[str, Any] | None:
    """Apply the published rule to the accuracy on both halves of the hold-out.

    The best starts at 0, only strict improvement counts, `patience` epochs without one end it. `legacy_censored` is
    set when our own run stopped before that rule would have.
    """
    best, best_epoch, epoch = 0.0, 0, 0
    stopped = False
    for epoch, (share, correct) in enumerate(zip(validation_accuracy, test_correct, strict=False), start=1):
        if share is None:
            break
        accuracy = (round(share * n_validation) + correct) / (n_validation + n_test)
        if accuracy > best:
            best, best_epoch = accuracy, epoch
        if epoch - best_epoch >= patience:
            stopped = True
            break
    if best_epoch == 0:
        return None
    return {
        "name": NAME,
        NAME: best,
        "epoch": best_epoch,
        "legacy_censored": not stopped and epoch < max_epochs,
        "biased": True,
    }
