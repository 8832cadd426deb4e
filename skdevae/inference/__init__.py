"""Inference: how the posterior of the latent and the likelihood of rows are found for a trained model."""

from .base import Inference, PosteriorFields
from .columns import column_evidence
from .encoder import EncoderInference, amortized_elbo
from .grid_ladder import LatentPosterior
from .laplace import LaplaceInference, Modes, warn_unless_converged
from .slopes import slopes
from .strategies import inference_for

__all__ = [
    "EncoderInference",
    "Inference",
    "LaplaceInference",
    "LatentPosterior",
    "Modes",
    "PosteriorFields",
    "amortized_elbo",
    "column_evidence",
    "inference_for",
    "slopes",
    "warn_unless_converged",
]
