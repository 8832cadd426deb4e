"""The estimators that faults are tried on, as quick as they get, and their table."""

from sklearn.datasets import load_wine

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

WINE = load_wine().data[::2]

ESTIMATORS = {
    "BasisDeVAE": lambda **more: BasisDeVAEClusterer(**{"max_epochs": 4, "random_state": 0} | more),
    "BasisDeVAE, amortized": lambda **more: BasisDeVAEClusterer(
        **{"inference": "amortized", "max_epochs": 4, "random_state": 0} | more
    ),
    "BasisVAE": lambda **more: BasisVAEClusterer(4, **{"max_epochs": 4, "random_state": 0} | more),
    "DeVAE": lambda **more: DeVAETransformer(**{"max_epochs": 4, "random_state": 0} | more),
    "VAE": lambda **more: VAETransformer(2, **{"max_epochs": 4, "n_importance_samples": 16, "random_state": 0} | more),
    "VampVAE": lambda **more: VampVAE(2, **{"max_epochs": 4, "n_importance_samples": 16, "random_state": 0} | more),
    "DGD": lambda **more: DGDEmbedder(
        2,
        n_clusters=3,
        n_init=1,
        hidden_layer_sizes=(8,),
        **{"max_epochs": 4, "n_importance_samples": 16, "random_state": 0} | more,
    ),
}
