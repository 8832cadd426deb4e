"""Latent axes and feature clusters for tables whose columns mean something, as scikit-learn estimators."""

from importlib.metadata import PackageNotFoundError, version

from . import datasets, metrics
from ._basisdevae import BasisDeVAEClusterer
from ._basisvae import BasisVAEClusterer
from ._devae import DeVAETransformer
from ._dgd import DGDEmbedder
from ._vae import VAETransformer
from ._vamp import VampVAE

try:
    __version__ = version("skdevae")
except PackageNotFoundError:  # a source tree that has not been installed
    __version__ = "0+unknown"

__all__ = [
    "BasisDeVAEClusterer",
    "BasisVAEClusterer",
    "DGDEmbedder",
    "DeVAETransformer",
    "VAETransformer",
    "VampVAE",
    "__version__",
    "datasets",
    "metrics",
]
