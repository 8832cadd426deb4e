"""Displays: figures of fitted models.

Drawing needs matplotlib, which is imported only then: ``pip install "skdevae[plot]"``. UMAP of a latent with more than
two components needs ``pip install "skdevae[umap]"``.
"""

from ._event_order import EventOrderDisplay
from ._feature_clusters import FeatureClusterDisplay
from ._k_selection import KSelectionDisplay
from ._latent import LatentDisplay
from ._loss import LossDisplay
from ._trajectory import TrajectoryDisplay

__all__ = [
    "EventOrderDisplay",
    "FeatureClusterDisplay",
    "KSelectionDisplay",
    "LatentDisplay",
    "LossDisplay",
    "TrajectoryDisplay",
]
