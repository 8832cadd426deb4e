"""Displays: figures of fitted models. Drawing needs matplotlib, imported only then: ``pip install "skdevae[plot]"``."""

from ._latent import LatentDisplay
from ._trajectory import TrajectoryDisplay

__all__ = ["LatentDisplay", "TrajectoryDisplay"]
