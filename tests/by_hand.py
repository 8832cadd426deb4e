"""What the tests of trajectory models work out themselves: densities by scipy, integrals by brute force.

Everything is computed from what a model says in public, but for the excess zeros of "zinb".
"""

import itertools

import numpy as np
from numpy.testing import assert_array_equal
from scipy.special import expit, logsumexp
from scipy.stats import bernoulli, nbinom, norm, poisson

COUNT_LIKELIHOODS = ("poisson", "nb", "zinb", "bernoulli")
LIKELIHOODS = ("gaussian", *COUNT_LIKELIHOODS)


def with_holes(table, share=0.2, seed=0):
    holes = np.random.default_rng(seed).random(table.shape) < share
    return np.where(holes, np.nan, table)


def in_columns(z):
    """Positions with one row each: (G, Q)."""
    z = np.asarray(z, dtype=np.float64)
    return z[:, None] if z.ndim == 1 else z


def share_of_excess_zeros(model, z):
    """Probability that an entry is an excess zero, (G, D)."""
    (logits,) = model.module_.likelihood.inflation_logits.numpy().astype(np.float64)  # the same for every z
    return np.tile(expit(logits), (len(in_columns(z)), 1))


def log_density(model, table, z):
    """log p(x_i | z_g), (N, G); missing entries do not count."""
    curves = model.trajectories(z)
    total = np.zeros((len(table), len(curves)))
    for column in range(table.shape[1]):
        x, curve = np.nan_to_num(table[:, [column]]), curves[:, column]
        match model.likelihood:
            case "gaussian":
                entries = norm.logpdf(x, curve, model.noise_scale_[column])
            case "poisson":
                entries = poisson.logpmf(x, curve)
            case "bernoulli":
                entries = bernoulli.logpmf(x, curve)
            case "nb":
                theta = model.dispersion_[column]
                entries = nbinom.logpmf(x, theta, theta / (theta + curve))
            case "zinb":
                theta, dropped = model.dispersion_[column], share_of_excess_zeros(model, z)[:, column]
                kept = np.log1p(-dropped) + nbinom.logpmf(x, theta, theta / (theta + curve / (1 - dropped)))
                entries = np.where(x == 0, np.logaddexp(np.log(dropped), kept), kept)
        total += np.where(np.isnan(table[:, [column]]), 0, entries)
    return total


def lattice(n_components=1, n_points=None, reach=8.0):
    """Positions (G, Q) on a fine grid, and the log of the prior's mass at each."""
    axis = np.linspace(-reach, reach, n_points or (2001 if n_components == 1 else 141))
    points = np.array(list(itertools.product(axis, repeat=n_components)))
    return points, norm.logpdf(points).sum(1) + n_components * np.log(axis[1] - axis[0])


def log_evidence(model, table, n_components=1, n_points=None, reach=8.0):
    """log of the integral of p(x | z) p(z) for every row."""
    points, log_mass = lattice(n_components, n_points, reach)
    return logsumexp(log_density(model, table, points) + log_mass, axis=1)


def log_likelihood_at_means(model, table):
    """log p(x | z) at every row's posterior mean, averaged over the rows."""
    positions = model.transform(table)
    return np.mean([log_density(model, row[None], z[None])[0, 0] for row, z in zip(table, positions, strict=True)])


def conditional_variance(model, z):
    """Variance of every entry given z, (G, D)."""
    curves = model.trajectories(z)
    match model.likelihood:
        case "gaussian":
            return np.broadcast_to(model.noise_scale_**2, curves.shape)
        case "poisson":
            return curves
        case "bernoulli":
            return curves * (1 - curves)
        case "nb":
            return curves + curves**2 / model.dispersion_
        case "zinb":
            dropped = share_of_excess_zeros(model, z)
            kept = curves / (1 - dropped)
            return (1 - dropped) * (kept + kept**2 / model.dispersion_ + dropped * kept**2)


def assert_same_bits(one, other, table):
    """Assert that two fits are one: of the same table, seed, machine and number of threads."""
    assert_array_equal(one.transform(table), other.transform(table))
    assert_array_equal(one.score_samples(table), other.score_samples(table))
    if hasattr(one, "responsibilities_"):
        assert_array_equal(one.responsibilities_, other.responsibilities_)
    assert one.lower_bound_ == other.lower_bound_
    assert one.history_[:, "train_loss"] == other.history_[:, "train_loss"]
