"""The Quantum Hydra/Mamba ablation study as one reproducible pipeline."""

__version__ = "0.1.0"
