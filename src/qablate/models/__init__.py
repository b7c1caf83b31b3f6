"""The models: blocks, their composition, and trained models from their files."""

from qablate.models.published import SequenceModel, build_model, kernels_of, load_trained, parameter_counts
from qablate.models.sizes import ModelSettings

__all__ = ["ModelSettings", "SequenceModel", "build_model", "kernels_of", "load_trained", "parameter_counts"]
