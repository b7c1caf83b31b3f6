"""Published checkpoints: loading by position, and the errors of checkpoints that do not fit."""

from collections import OrderedDict

import pytest
import torch
from goldens import PUBLISHED, golden_cases, golden_inputs, golden_weights

from qablate.errors import QablateError
from qablate.models import build_model, load_published_state, published_tensors


def weights_of(model_id, index=0):
    """Tensors of a golden case; zeros stand for the frozen table."""
    case = golden_cases()[model_id][index]
    shapes = [entry["shape"] for entry in case["tensors"]]
    return [
        torch.zeros(shape) if given is None else given
        for shape, given in zip(shapes, golden_weights(case), strict=True)
    ]


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_list_and_state_dict_load_the_same(model_id):
    case, tensors = golden_cases()[model_id][0], weights_of(model_id)
    outputs = []
    for form in (tensors, OrderedDict((f"published.{i}", tensor) for i, tensor in enumerate(tensors))):
        model = build_model(model_id, case["channels"], case["length"], case["outputs"]).eval()
        load_published_state(model, form)
        outputs.append(model(golden_inputs(case)))
        for (_, parameter), tensor in zip(published_tensors(model), tensors, strict=True):
            assert torch.equal(parameter, tensor)
    assert torch.equal(*outputs)


def model_1c():
    return build_model("1c", 2, 100, 8)


def test_a_missing_tensor_is_an_error():
    with pytest.raises(QablateError, match="model 1c: the checkpoint holds 122 tensors, must be 123"):
        load_published_state(model_1c(), weights_of("1c")[:-1])


def test_a_wrong_shape_is_an_error_that_names_position_role_and_shapes_and_copies_nothing():
    model, tensors = model_1c(), weights_of("1c")
    before = model.encoder.alpha.detach().clone()
    tensors[5] = torch.zeros(9)
    with pytest.raises(QablateError, match=r"tensor 5 .*tokens\.map\.norm\.weight.*\(9,\).*\(128,\)"):
        load_published_state(model, tensors)
    assert torch.equal(model.encoder.alpha, before)


def test_a_real_tensor_for_a_complex_one_is_an_error():
    tensors = weights_of("1c")
    tensors[0] = tensors[0].real
    with pytest.raises(QablateError, match=r"tensor 0 .*encoder\.alpha.*real of shape \(1,\).*complex of shape \(1,\)"):
        load_published_state(model_1c(), tensors)
