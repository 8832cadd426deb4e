"""Samples of clusters that a mixture is looked for among."""

import numpy as np

SIZES = (150, 60, 25, 12)
CENTERS = np.array([[0.0, 0.0, 0.0], [12.0, 0.0, 3.0], [0.0, 11.0, -3.0], [-10.0, -9.0, 0.0]])


def clusters(sizes=SIZES, seed=0):
    """Samples of clusters of unequal size and one shape, and which is whose."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sds = np.array([1.0, 0.7, 1.5])
    return CENTERS[labels] + sds * np.random.default_rng(seed).normal(size=(len(labels), 3)), labels


def soft(n, k, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(k), n)
