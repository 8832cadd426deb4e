"""Arguments that make no sense are refused in the user's words, and not by a library that they happen to reach."""

import re

import numpy as np
import pytest
from fuzz.estimators import EstimatorRecipe
from fuzz.tables import TableRecipe
from numpy.testing import assert_allclose

X = TableRecipe(n=12, d=4).values()
COUNTS = TableRecipe(n=12, d=4, contents="counts").values()


@pytest.mark.parametrize(
    "facts, message",
    [
        ({"y": [[1], [2, 3]]}, "y is no list of classes"),
        ({"y": np.full(12, np.inf)}, "y is infinite in row 0"),
        ({"y": np.ones((12, 1))}, "y has shape"),
        ({"y": np.arange(12) % 2, "sample_weight": np.full(12, 1e300)}, "adds up to more than"),
        ({"y": np.arange(12) % 2, "sample_weight": ["a"] * 12}, "sample_weight"),
    ],
)
def test_facts_about_samples(facts, message):
    model = EstimatorRecipe("DGDEmbedder", (("supervised", "True"),)).build()
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X, **facts)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.zeros(12), "[Ss]ample.weight"),
        (-np.ones(12), "Negative values in data passed to `sample_weight`"),
        (np.ones(11), "sample_weight.shape"),
        (["a"] * 12, "sample_weight"),
        (np.full(12, np.nan), "sample_weight contains NaN"),
    ],
)
def test_weights_of_a_score(weights, message):
    model = EstimatorRecipe("VAETransformer").build().fit(X)
    with pytest.raises((ValueError, TypeError), match=message):
        model.score(X, sample_weight=weights)
    weights = np.arange(12) % 3
    assert_allclose(model.score(X, sample_weight=weights), model.score(np.repeat(X, weights, axis=0)))


@pytest.mark.parametrize(
    "sizes",
    [
        np.ones(12) + 1j,
        [10**400] * 12,
        ["a"] * 12,
        ["1"] * 12,
        np.arange(1, 13).astype("datetime64[D]"),
        iter([1.0] * 12),
    ],
    ids=["complex", "too large", "texts", "numbers as texts", "dates", "an iterator"],
)
def test_size_factors_that_are_no_numbers(sizes):
    for name in ("VAETransformer", "DGDEmbedder"):
        model = EstimatorRecipe(name, (("likelihood", "'nb'"),)).build()
        with pytest.raises(ValueError, match="size_factors must be numbers"):
            model.fit(COUNTS, size_factors=sizes)
        model.fit(COUNTS, size_factors=np.ones(12))
        with pytest.raises(ValueError, match="size_factors must be numbers"):
            model.transform(COUNTS, size_factors=sizes)


@pytest.mark.parametrize("threshold", ["a", None, -1, np.nan])
@pytest.mark.filterwarnings("ignore:No axis was found", "ignore:.*lie beyond z_max")
def test_a_threshold_that_is_no_probability(threshold):
    model = EstimatorRecipe("BasisDeVAEClusterer").build().fit(X)
    with pytest.raises(ValueError, match="give a probability"):
        model.feature_labels(threshold)


def test_a_likelihood_that_is_a_list():
    with pytest.raises(ValueError, match="The 'likelihood' parameter"):
        EstimatorRecipe("DeVAETransformer", (("likelihood", "['nb']"),)).build().fit_transform(X)


@pytest.mark.parametrize(
    "name, parameter, value",
    [
        ("BasisDeVAEClusterer", "alpha", 1e300),
        ("BasisVAEClusterer", "z_max", 1e-300),
        ("BasisVAEClusterer", "z_max", 1e300),
        ("DGDEmbedder", "latent_learning_rate", 1e300),
    ],
)
def test_parameters_that_single_precision_does_not_hold(name, parameter, value):
    model = EstimatorRecipe(name).build().set_params(**{parameter: value})
    with pytest.raises(
        ValueError, match=rf"^{parameter}={re.escape(repr(value))}, but models are trained in single precision"
    ):
        model.fit(X)
