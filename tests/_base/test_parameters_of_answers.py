"""Parameters that a fitted model reads are judged when it reads them; the others are for the next fit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skdevae import DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

COUNTS = np.random.default_rng(0).poisson(3, (20, 4))
SIZED = {"likelihood": "poisson", "size_factors": "sum"}
QUICK = {"max_epochs": 1, "random_state": 0}
DGD = DGDEmbedder(1, n_clusters=1, hidden_layer_sizes=(), n_importance_samples=8, **SIZED, **QUICK)


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [
        (DGD, "latent_tol", 0.0),
        (DGD, "size_factors", "median"),
        (VampVAE(1, **SIZED, **QUICK), "n_importance_samples", 0),
        (VAETransformer(1, **SIZED, **QUICK), "n_importance_samples", 1.5),
        (DeVAETransformer(1, **QUICK), "n_importance_samples", "many"),
    ],
)
def test_what_answers_read_is_judged_by_the_rules_of_fits(estimator, name, value):
    model = clone(estimator).fit(COUNTS)
    expected, settled = model.score_samples(COUNTS), model.get_params()[name]
    model.set_params(**{name: value})
    for ask in (model.fit, model.transform, model.score_samples):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of {type(model).__name__} must be"):
            ask(COUNTS)
    model.set_params(**{name: settled}, max_epochs=0)
    assert_array_equal(model.score_samples(COUNTS), expected)
