"""Latent axes and feature clusters for tables whose columns mean something, as scikit-learn estimators."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from . import datasets, inspection, metrics
from ._version import __version__
from .embedding._dgd import DGDEmbedder
from .embedding._vae import VAETransformer
from .embedding._vamp import VampVAE
from .trajectory._basisdevae import BasisDeVAEClusterer
from .trajectory._basisvae import BasisVAEClusterer
from .trajectory._devae import DeVAETransformer

if TYPE_CHECKING:
    from . import display

__all__ = [
    "BasisDeVAEClusterer",
    "BasisVAEClusterer",
    "DGDEmbedder",
    "DeVAETransformer",
    "VAETransformer",
    "VampVAE",
    "__version__",
    "datasets",
    "display",
    "inspection",
    "metrics",
]


def __getattr__(name: str) -> ModuleType:
    # Displays are imported when they are first asked for.
    if name == "display":
        return import_module(".display", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
