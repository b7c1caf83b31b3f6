"""The models: blocks, their composition, and published checkpoints."""

from qablate.models.composition import SequenceModel
from qablate.models.published import load_published_state, parameter_counts, published_tensors, untrained_parameters
from qablate.models.registry import build_model, kernels_of
from qablate.models.sizes import ModelSettings

__all__ = [
    "ModelSettings",
    "SequenceModel",
    "build_model",
    "kernels_of",
    "load_published_state",
    "parameter_counts",
    "published_tensors",
    "untrained_parameters",
]
