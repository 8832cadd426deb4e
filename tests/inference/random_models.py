"""Models of every kind, small and with random parameters, and tables for them."""

import math

import numpy as np
import torch

from skdevae.nn.models import build_model
from skdevae.nn.row_context import RowContext
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
LIKELIHOODS = ["gaussian", "poisson", "nb", "zinb", "bernoulli"]

NORMAL = {"name": "normal"}
VAMP = {"name": "vamp", "n_mixture_components": 4, "learn_weights": True, "learn_pseudo_inputs": True}
LEARNED_MIXTURE = {"name": "mixture", "n_mixture_components": 3, "learn_weights": True}
FLOW = {"name": "iaf", "n_flows": 1}


def random_model(
    kind="exact",
    likelihood="gaussian",
    *,
    n_features=5,
    n_components=2,
    decoder="neural",
    hidden=(4,),
    behaviors=(),
    prior=NORMAL,
    posterior_family=NORMAL,
    variational=True,
    n_samples=10,
    z_max=4.0,
    prior_weight=1.0,
    seed=0,
    spread=0.5,
    **mixture,
):
    """A float64 model in evaluation mode whose every parameter is random.

    ``kind`` is "exact", "amortized" or "mixture". A decoder without hidden layers is a plane. With ``behaviors`` every
    feature chooses between as many curves. ``mixture`` are arguments of the mixture.
    """
    network = {"hidden_layer_sizes": hidden, "activation": "tanh"}
    integrated = {**network, "integrator": "grid", "n_knots": 11, "z_max": z_max}
    signs = np.resize([1, -1, 0, 1, 0], n_features).tolist()
    decoders = {
        "neural": {"name": "neural", "n_components": n_components, **network},
        "additive": {"name": "additive", "n_components": n_components, "signs": signs, **integrated},
    }
    own = {"gaussian": {"floor": 0.1}, "zinb": {"n_components": n_components}}.get(likelihood, {})
    config = {
        "n_samples": n_samples,
        "n_features": n_features,
        "n_components": n_components,
        "decoder": decoders[decoder],
        "likelihood": {"name": likelihood, **own},
        "assignment": None,
        "encoder": None,
        "prior": prior,
        "posterior_family": posterior_family,
        "variational": variational,
        "z_max": math.inf if kind == "mixture" else z_max,
        "weight_precision": 0.0 if kind == "mixture" else 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }
    if behaviors:
        config["decoder"] = {"name": "derivative", "behaviors": behaviors, **integrated}
        config["assignment"] = {"name": "collapsed", "n_clusters": len(behaviors), "alpha": 1.0}
    if kind == "amortized":
        config["encoder"] = {**network, "counts": likelihood != "gaussian", "sees_mask": True}
    if kind == "mixture":
        config["prior_weight"] = prior_weight
        config["mixture"] = {
            "n_mixture_components": 1,
            "covariance_type": "diag",
            "dirichlet_alpha": 1.0,
            "softball_scale": 3.0,
            "softball_sharpness": 2.0,
            "learned": True,
            **mixture,
        }
    generator = torch.Generator().manual_seed(seed)
    model = build_model(config, generator).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, spread, generator=generator)
    return model


def model_of_many_modes(likelihood):
    """A mixture of three components in two dimensions, and two columns whose curves bend."""
    model = random_model(
        "mixture", likelihood, n_features=2, n_components=2, hidden=(16,), n_mixture_components=3, spread=1.0
    )
    means = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]]).double()
    model.mixture.set_(torch.tensor([0.5, 0.3, 0.2]).double(), means, torch.full((3, 2), 0.7).double())
    if likelihood == "poisson":
        model.decoder.level.fill_(1.5)  # counts say something
    return model


def joint_on_a_grid(model, table, n=201, reach=6.0):
    """Logs of the mass of p(x, z) around the points (P, 2) of a grid, (B, P), and the points."""
    axis = torch.linspace(-reach, reach, n, dtype=torch.float64)
    points, rows = torch.cartesian_prod(axis, axis), rows_of(table)
    joint = model.likelihood.pair_log_prob(rows, model.predictive_curves(points), points)
    joint = joint + model.latent_prior().log_density(points) + 2 * math.log(axis[1] - axis[0])
    return joint + model.likelihood.row_constant(rows)[:, None], points


def random_table(likelihood, n=8, n_features=5, *, seed=1, missing=0.0, sizes=None):
    """A table (n, D) of the kind that a likelihood is for; sizes (n,) multiply the mean of counts."""
    generator = np.random.default_rng(seed)
    match likelihood:
        case "gaussian":
            table = generator.normal(0, 1.5, (n, n_features))
        case "bernoulli":
            table = generator.integers(0, 2, (n, n_features)).astype(float)
        case _:
            rate = np.full(n, 2.0) if sizes is None else 2.0 * sizes
            table = generator.poisson(rate[:, None], (n, n_features)).astype(float)
    return np.where(generator.random((n, n_features)) < missing, np.nan, table)


def drawn_table(model, n=40, *, missing=0.0, seed=3):
    """A table that the model itself has drawn, with holes."""
    generator = torch.Generator().manual_seed(seed)
    z, _ = model.latent_prior().draw(n, generator)
    table = model.likelihood.sample(model.predictive_curves(z), z, generator).numpy()
    return np.where(np.random.default_rng(0).random(table.shape) < missing, np.nan, table)


def source_of(table, **context):
    """The rows of a table, in float64, with what they carry."""
    return RowSource(table, None, None, FLOAT64, RowContext(**context))


def rows_of(table, **context):
    """All rows of a table as one dense block."""
    return source_of(table, **context).rows(slice(None)).dense()


def gaussian_marginal(model):
    """Of a gaussian model whose decoder is a plane: mean (D,), loadings (D, Q) and noise variances (D,)."""
    level, loadings = model.decoder.level, model.decoder.loadings
    return level.numpy(), loadings.numpy().T, model.likelihood.scale.numpy() ** 2
