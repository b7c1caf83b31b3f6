"""Parameter counts of every model on every task and length, to the unit."""

import pytest

from qablate.catalog import MODELS, TASKS
from qablate.goldens import published_parameters
from qablate.models import build_model, parameter_counts

FROZEN = {"1a": 16, "3a": 1}    # steps per token: positions are a parameter without gradient


@pytest.mark.parametrize("model_id", sorted({model for model, _, _ in published_parameters()}))
def test_counts_of_the_published_study(model_id):
    for (model, task, length), total in published_parameters().items():
        if model == model_id:
            info = TASKS[task]
            shape = (info.n_channels(info.parameters), length, info.n_outputs(info.parameters))
            frozen = 128 * -(-length // FROZEN[model]) if model in FROZEN else 0
            assert parameter_counts(build_model(model, *shape)) == (total, total - frozen), (task, length)


def test_every_model_of_every_task_has_a_published_count():
    assert len(published_parameters()) == 12 * 11 and {model for model, _, _ in published_parameters()} <= set(MODELS)
