"""Inference: how the posterior of the latent and the likelihood of rows are found for a trained model."""

from .base import Inference, Placement, PosteriorFields
from .columns import column_evidence
from .encoder import EncoderInference, amortized_elbo, mean_elbo
from .grid import placement_on_grid
from .laplace import LaplaceInference, Modes, warn_unless_converged
from .latent_posterior import LatentPosterior
from .slopes import slopes
from .strategies import inference_for
from .training_range import TrainingRange, warn_of_rows_beyond

__all__ = [
    "EncoderInference",
    "Inference",
    "LaplaceInference",
    "LatentPosterior",
    "Modes",
    "Placement",
    "PosteriorFields",
    "TrainingRange",
    "amortized_elbo",
    "column_evidence",
    "inference_for",
    "mean_elbo",
    "placement_on_grid",
    "slopes",
    "warn_of_rows_beyond",
    "warn_unless_converged",
]
