"""The estimators that faults are tried on, as quick as they get, and their table."""

from sklearn.datasets import load_wine

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

WINE = load_wine().data[::2]


def _quick(estimator, *arguments, **parameters):
    """A function that makes such an estimator, with further parameters where they are given."""
    quick = {"max_epochs": 4, "random_state": 0, **parameters}
    return lambda **more: estimator(*arguments, **(quick | more))


ESTIMATORS = {
    "BasisDeVAE": _quick(BasisDeVAEClusterer),
    "BasisDeVAE, amortized": _quick(BasisDeVAEClusterer, inference="amortized"),
    "BasisVAE": _quick(BasisVAEClusterer, 4),
    "DeVAE": _quick(DeVAETransformer),
    "VAE": _quick(VAETransformer, 2, n_importance_samples=16),
    "VampVAE": _quick(VampVAE, 2, n_importance_samples=16),
    "DGD": _quick(DGDEmbedder, 2, n_clusters=3, n_init=1, hidden_layer_sizes=(8,), n_importance_samples=16),
}
