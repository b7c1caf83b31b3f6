"""Published checkpoints: where the tensors of the published enumeration are in the models built here."""


def _in_blocks(prefix, names):
    return [f"{prefix}.{name}" for name in names.split()]


def _twice(names):
    return [*_in_blocks("mixer.0", names), *_in_blocks("mixer.1", names)]


CHAIN = ["tokens", "encoder", "mixer", "norm", "pool", "head"]
ORDER = {
    "1a": ["mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"],
    "3a": ["mixer.positions", "tokens", "encoder", "mixer.blocks", "norm", "head"],
    "1c": [
        *_in_blocks("encoder", "alpha beta gamma"), "tokens", *_in_blocks("encoder", "ahead back diagonal"),
        *_twice("input forward_weight backward_weight diagonal_weight forward_core backward_core diagonal combination "
                "unused_inner_norm output unused_norm"),
        "norm", "head",
    ],
    "2a": ["tokens", *_in_blocks("encoder", "pool coefficients final_angles to_angles output"), "norm", "head"],
    "3b": ["tokens", "encoder", *_twice("input core.selection convolution core.A_log core.skip core.step output norm"),
           "norm", "head"],
    "3c": ["tokens", "encoder", *_twice("input convolution A_log skip step output inner_norm"), "mixer.0.outer_norm",
           "mixer.1.outer_norm", "norm", "head"],
}
"""Parameters, or modules with all of theirs in the order of registration; the others are in the order of the chain."""


def published_tensors(model):
    """Parameters in published order, one per published tensor."""
    return [parameter for entry in ORDER.get(model.model_id, CHAIN) for name, parameter in model.named_parameters()
            if name == entry or name.startswith(f"{entry}.")]


def load_published_state(model, tensors):
    """Copy all published tensors, a list in their own order, into a model; None leaves a tensor as it is."""
    for parameter, tensor in zip(published_tensors(model), tensors, strict=True):
        if tensor is not None:
            assert (parameter.shape, parameter.is_complex()) == (tensor.shape, tensor.is_complex())
            parameter.data.copy_(tensor)
