"""Parameters and arguments may be numbers of NumPy's, and True stands for 1: as scikit-learn's own checks have it."""

import numpy as np
import pytest
from fuzz.estimators import SMALL, EstimatorRecipe, parameters_of
from fuzz.tables import TableRecipe
from numpy.testing import assert_array_equal

X = TableRecipe(n=12, d=4).values()


def numbers(kind, **values):
    return {name: kind(value) for name, value in values.items()}


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:No axis was found", "ignore:.*lie beyond z_max")
@pytest.mark.parametrize("name", SMALL)
def test_numbers_of_numpy_are_numbers(name):
    own = EstimatorRecipe(name).build()
    chosen = {
        "batch_size": 5,
        "max_epochs": 2,
        "n_init": 1,
        "n_components": 1,
        "random_state": 3,
        "n_iter_no_change": 2,
    }
    chosen = {parameter: value for parameter, value in chosen.items() if parameter in parameters_of(name)}
    real = {"learning_rate": 0.125, "tol": 0.25, "noise_floor": 0.125}
    expected = own.set_params(**chosen, **real).fit(X)
    got = EstimatorRecipe(name).build()
    got.set_params(**numbers(np.int64, **chosen), **numbers(np.float32, **real)).fit(X)
    assert_array_equal(got.transform(X), expected.transform(X))
    assert_array_equal(got.sample(np.int64(3), random_state=0), expected.sample(3, random_state=0))


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:No axis was found", "ignore:.*lie beyond z_max")
@pytest.mark.parametrize("name", SMALL)
def test_true_is_one(name):
    counted = "n_components" if "n_components" in parameters_of(name) else "n_init"
    one, true = (EstimatorRecipe(name, ((counted, value),)).build().fit(X) for value in ("1", "True"))
    assert_array_equal(true.transform(X), one.transform(X))
    assert_array_equal(true.sample(True, random_state=0), one.sample(1, random_state=0))
    assert_array_equal(true.sample_latent(True, random_state=0), one.sample_latent(1, random_state=0))
