"""Latent axes and feature clusters for tables whose columns mean something, as scikit-learn estimators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import datasets, display, export, inspection, metrics, scverse
    from .embedding._dgd import DGDEmbedder
    from .embedding._vae import VAETransformer
    from .embedding._vamp import VampVAE
    from .trajectory._basisdevae import BasisDeVAEClusterer
    from .trajectory._basisvae import BasisVAEClusterer
    from .trajectory._devae import DeVAETransformer

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
    "export",
    "inspection",
    "metrics",
    "scverse",
]

#: the modules of classes, and modules that are public themselves
_CLASSES = {
    "BasisDeVAEClusterer": ".trajectory._basisdevae",
    "BasisVAEClusterer": ".trajectory._basisvae",
    "DGDEmbedder": ".embedding._dgd",
    "DeVAETransformer": ".trajectory._devae",
    "VAETransformer": ".embedding._vae",
    "VampVAE": ".embedding._vamp",
}
_MODULES = {"datasets", "display", "export", "inspection", "metrics", "scverse"}


def __getattr__(name: str) -> Any:
    # Names are imported when they are first asked for, and torch and scikit-learn with them.
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _CLASSES:
        globals()[name] = found = getattr(import_module(_CLASSES[name], __name__), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
