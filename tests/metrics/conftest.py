"""Tables and fitted models that the tests of the measures share; they only read them."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import VAETransformer


@pytest.fixture(scope="session")
def table():
    """Three classes of rows in six columns of different size."""
    random = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 30)
    centres = {label: 2 * random.standard_normal(6) for label in "abc"}
    X = np.array([centres[label] for label in y]) + random.standard_normal((90, 6))
    return X * np.geomspace(0.1, 10, 6), y


@pytest.fixture(scope="session")
def vae(table):
    return VAETransformer(n_components=2, max_epochs=5, random_state=0).fit(table[0])


@pytest.fixture(scope="session")
def scaled_vae(table):
    return make_pipeline(StandardScaler(), VAETransformer(n_components=2, max_epochs=5, random_state=0)).fit(table[0])
