"""Measures: how well features are clustered, and how good an embedding of samples is."""

from ._coclustering import coclustering_matrix
from ._divergence import latent_divergence
from ._embedding_measures import (
    active_units,
    latent_covariance,
    mean_absolute_correlation,
    n_principal_components,
    unit_activity,
)
from ._embedding_scorers import (
    active_units_scorer,
    latent_correlation_scorer,
    neg_n_principal_components_scorer,
    neg_reconstruction_loss_scorer,
    silhouette_scorer,
)
from ._feature_clustering_scorer import FeatureClusteringScorer, feature_clustering_scorer
from ._routing import RequestingScorer, requesting_scorer

__all__ = [
    "FeatureClusteringScorer",
    "RequestingScorer",
    "active_units",
    "active_units_scorer",
    "coclustering_matrix",
    "feature_clustering_scorer",
    "latent_correlation_scorer",
    "latent_covariance",
    "latent_divergence",
    "mean_absolute_correlation",
    "n_principal_components",
    "neg_n_principal_components_scorer",
    "neg_reconstruction_loss_scorer",
    "requesting_scorer",
    "silhouette_scorer",
    "unit_activity",
]
