"""Estimators of the fuzzer: the smallest that make sense, with parameters at their bounds and beyond.

Parameters are written as code, so that what a try prints can be run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from skorch.callbacks import Callback

import skdevae
from skdevae._base.estimator import LatentEstimator

#: each estimator as small and as short as a fit can be
SMALL = {
    "BasisDeVAEClusterer": {"n_grid_points": "9", "n_knots": "5", "hidden_layer_sizes": "(3,)", "max_epochs": "2"},
    "BasisVAEClusterer": {
        "n_clusters": "3",
        "n_grid_points": "9",
        "n_knots": "5",
        "hidden_layer_sizes": "(3,)",
        "max_epochs": "2",
    },
    "DeVAETransformer": {"n_grid_points": "9", "n_knots": "5", "hidden_layer_sizes": "(3,)", "max_epochs": "3"},
    "VAETransformer": {
        "hidden_layer_sizes": "(3,)",
        "encoder_hidden_layer_sizes": "(3,)",
        "max_epochs": "3",
        "n_importance_samples": "4",
    },
    "VampVAE": {
        "n_components": "2",
        "n_clusters": "2",
        "n_pseudo_inputs": "2",
        "hidden_layer_sizes": "(3,)",
        "encoder_hidden_layer_sizes": "(3,)",
        "max_epochs": "3",
        "n_importance_samples": "4",
    },
    "DGDEmbedder": {
        "n_components": "2",
        "n_clusters": "2",
        "hidden_layer_sizes": "(3,)",
        "learning_rate": "0.01",
        "max_epochs": "3",
        "n_init": "1",
        "n_importance_samples": "4",
    },
}


class Stops(Callback):
    """A callback that ends a fit as Ctrl-C does."""

    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


class Vanishes(torch.nn.Module):
    """A decoder that gives NaN."""

    def __init__(self, d: int):
        super().__init__()
        self.d = d
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return self.weight * z.sum(1, keepdim=True).expand(-1, self.d) + torch.nan


#: what codes name, beside the estimators
NAMES = {
    "np": np,
    "torch": torch,
    "Callback": Callback,
    "Stops": Stops,
    "Vanishes": Vanishes,
    "nan": np.nan,
    "inf": np.inf,
}

_POSITIVE = ("0.5", "1", "1e-300", "1e300", "np.float32(0.5)", "0", "-1", "nan", "inf", "'a'", "None", "True", "1j")
_SHARE = ("0.5", "1e-12", "0.999999", "0", "1", "nan", "-0.1", "'a'", "None")
_NUMBER = ("1", "2", "3", "np.int64(2)", "True", "0", "-1", "2.0", "1.5", "nan", "'2'", "None")
_FLAG = ("True", "False", "np.True_", "1", "'yes'", "None")
_LAYERS = (
    "()",
    "(1,)",
    "[3, 2]",
    "np.array([3])",
    "(0,)",
    "(2.5,)",
    "'ab'",
    "3",
    "None",
    "(nan,)",
    "((3,),)",
    "(True,)",
)
_SIZES = (
    "'sum'",
    "None",
    "lambda X: np.ones(X.shape[0])",
    "lambda X: X.sum(1)",
    "lambda X: 'a'",
    "lambda X: np.zeros(X.shape[0])",
    "np.ones(12)",
    "np.arange(12)",
    "np.ones(3)",
    "np.full(12, nan)",
    "np.full(12, 1e300)",
    "['a'] * 12",
    "np.ones((12, 1))",
    "np.ones(12) + 1j",
    "'mean'",
    "3.0",
)

#: values of parameters, most of them odd
VALUES = {
    "n_components": (*_NUMBER, "10"),
    "n_clusters": (*_NUMBER, "50"),
    "behaviors": (
        "'free'",
        "('flat',)",
        "('transient', 'dip')",
        "('flat', 'flat')",
        "()",
        "3",
        "'up'",
        "[1]",
        "np.array(['free'])",
    ),
    "basis": ("'free'", "('increasing',)", "('transient', 'dip')", "('flat', 'flat')", "()", "3", "'up'", "[1]"),
    "margin": _SHARE,
    "leveling_off": ("'turn'", "'plateau'", "'fall'", "None"),
    "alpha": _POSITIVE,
    "scale_invariant": _FLAG,
    "translation_invariant": _FLAG,
    "scale_bounds": ("(1e-8, 1e8)", "(0, 1)", "(2, 1)", "(1,)", "'ab'", "(nan, 1)", "(1, inf)", "None"),
    "max_shift": (*_POSITIVE, "2.5", "3"),
    "monotonic_cst": ("None", "1", "[1, -1, 0, 0]", "[1]", "{'gene 0': 1}", "{'a': 1}", "'up'", "[2, 0, 0, 0]"),
    "likelihood": ("'gaussian'", "'poisson'", "'nb'", "'zinb'", "'bernoulli'", "'normal'", "None", "3", "['nb']"),
    "inference": ("'exact'", "'amortized'", "'laplace'", "None"),
    "assignment": ("'collapsed'", "'noncollapsed'", "'fixed'", "'free'"),
    "integrator": ("'grid'", "'gauss-legendre'", "'euler'"),
    "n_knots": ("2", "3", "65", *_NUMBER),
    "n_grid_points": ("2", "3", "4", "33", *_NUMBER),
    "z_max": (*_POSITIVE, "4.5", "50", "1e6"),
    "hidden_layer_sizes": _LAYERS,
    "encoder_hidden_layer_sizes": _LAYERS,
    "activation": ("'tanh'", "'relu'", "'softplus'", "'elu'", "'gelu'", "'sin'", "None"),
    "beta": (*_POSITIVE, "1e6"),
    "gamma": (*_POSITIVE, "1e6"),
    "kl_warmup": (*_SHARE, "1"),
    "weight_precision": _POSITIVE,
    "noise_floor": _SHARE,
    "learning_rate": (*_POSITIVE, "100", "1e-8"),
    "learning_rate_decay": ("'cosine'", "'plateau'", "'linear'"),
    "latent_learning_rate": (*_POSITIVE, "100"),
    "mixture_learning_rate": (*_POSITIVE, "100"),
    "batch_size": ("1", "2", "5", "10**12", *_NUMBER),
    "max_epochs": ("1", "5", "0", "-1", "2.0", "nan", "'2'"),
    "early_stopping": _FLAG,
    "validation_fraction": (*_SHARE, "0.05", "0.95"),
    "n_iter_no_change": _NUMBER,
    "tol": _POSITIVE,
    "latent_tol": _POSITIVE,
    "n_init": ("1", "2", "0", "-1", "1.5", "'2'", "None"),
    "n_importance_samples": ("1", "3", "64", *_NUMBER),
    "orientation": ("0", "-1", "99", "'gene 0'", "'a'", "1.5", "nan", "True", "[0]"),
    "device": (
        "'cpu'",
        "'auto'",
        "'cuda'",
        "'cuda:7'",
        "'gpu'",
        "'meta'",
        "''",
        "'cpu:3'",
        "None",
        "torch.device('cpu')",
    ),
    "random_state": (
        "0",
        "2**32 - 1",
        "np.int64(1)",
        "np.random.RandomState(0)",
        "None",
        "-1",
        "2**32",
        "2**70",
        "1.5",
        "'a'",
        "np.random.default_rng(0)",
        "True",
    ),
    "verbose": ("0", "False", "-1", "'a'", "None"),
    "callbacks": (
        "[]",
        "()",
        "[Callback()]",
        "[('a', Callback())]",
        "[('a', Callback()), ('a', Callback())]",
        "[Callback(), Callback()]",
        "[('print_log', Callback())]",
        "[Callback]",
        "[('a', None)]",
        "[('a',)]",
        "[(3, Callback())]",
        "[Stops()]",
        "[None]",
        "[3]",
        "'a'",
        "Callback()",
    ),
    "size_factors": _SIZES,
    "covariates": (
        "None",
        "[0]",
        "['gene 0']",
        "'gene 0'",
        "0",
        "[-1, 1]",
        "np.array([1])",
        "[True, False, False, False]",
        "{0: 'categorical'}",
        "{0: 'numeric', 1: 'categorical'}",
        "lambda X: [0]",
        "[99]",
        "['a']",
        "[True]",
        "{0: 'text'}",
        "lambda X: 'a'",
        "[0, 0]",
        "[0, 1, 2, 3]",
        "[]",
        "3.5",
        "[None]",
    ),
    "interactions": ("None", "'curves'", "'gene 0'", "'x0'", "'a'", "3", "['gene 0']"),
    "unknown_covariate": ("'error'", "'average'", "'a'", "None"),
    "decoder": (
        "'mlp'",
        "'linear'",
        "'free'",
        "None",
        "torch.nn.Linear(2, 4)",
        "torch.nn.Linear(2, 5)",
        "torch.nn.Linear(3, 4)",
        "torch.nn.Linear(2, 4).double()",
        "torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(), torch.nn.Linear(3, 4))",
        "torch.nn.Identity()",
        "torch.nn.Linear",
        "Vanishes(4)",
        "torch.nn.LazyLinear(4)",
    ),
    "prior": ("'normal'", "'mixture'", "'vamp'", "'gmm'"),
    "n_pseudo_inputs": (*_NUMBER, "100"),
    "pseudo_input_init": ("'kmeans'", "'data'", "'random'", "'zero'"),
    "learn_pseudo_inputs": _FLAG,
    "n_mixture_components": _NUMBER,
    "learn_mixture_weights": _FLAG,
    "posterior_family": ("'normal'", "'iaf'", "'flow'"),
    "n_flows": _NUMBER,
    "variational": _FLAG,
    "normalization": ("None", "'batch'", "'layer'", "'group'"),
    "dropout": _SHARE,
    "linear_skip": _FLAG,
    "representation": ("'map'", "'variational'", "'point'"),
    "supervised": _FLAG,
    "latent_init": ("'pca'", "'zero'", "'random'"),
    "mixture_init": ("'gmm'", "'kmeans'", "'softball'", "None", "'random'"),
    "covariance_type": ("'diag'", "'isotropic'", "'fixed'", "'full'"),
    "may_be_empty": _FLAG,
    "dirichlet_alpha": (*_POSITIVE, "1e6"),
    "softball_scale": _POSITIVE,
    "softball_sharpness": _POSITIVE,
    "prior_weight": ("'n_samples'", *_POSITIVE),
    "refit_mixture": _FLAG,
    "weight_decay": (*_POSITIVE, "1e6"),
    "betas": (
        "(0.5, 0.7)",
        "(0, 0)",
        "(1, 1)",
        "(0.5,)",
        "'ab'",
        "(nan, 0.5)",
        "(-1, 0.5)",
        "[0.9, 0.99]",
        "None",
        "3",
        "np.array([0.5, 0.9])",
    ),
}


def parameters_of(name: str) -> list[str]:
    """The names of an estimator's parameters."""
    return sorted(getattr(skdevae, name)().get_params())


@dataclass(frozen=True)
class EstimatorRecipe:
    """An estimator, as a name and the code of those parameters that are not as in ``SMALL``."""

    name: str
    changes: tuple[tuple[str, str], ...] = ()

    def code(self) -> str:
        """The estimator as code."""
        parameters = {**SMALL[self.name], "random_state": "0", **dict(self.changes)}
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in parameters.items())})"

    def build(self) -> LatentEstimator:
        """The estimator."""
        return eval(self.code(), {**NAMES, **{name: getattr(skdevae, name) for name in skdevae.__all__}})
