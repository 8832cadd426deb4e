"""Positions far out on the latent: finite answers, or an error that says which position has none."""

import numpy as np
import pytest

from skdevae import DeVAETransformer, DGDEmbedder, VAETransformer

MODELS = {
    "derivatives on an axis": DeVAETransformer(max_epochs=2),
    "encoder": VAETransformer(n_components=1, hidden_layer_sizes=(), max_epochs=2),
    "representations": DGDEmbedder(n_components=1, n_clusters=1, max_epochs=2),
}


def _fitted(name, likelihood):
    rng = np.random.default_rng(0)
    X = rng.poisson(np.exp(2 + np.outer(rng.normal(size=12), rng.normal(size=3)))).astype(float)
    model = MODELS[name].__sklearn_clone__()
    model.set_params(likelihood=likelihood, random_state=0)
    return model.fit(np.minimum(X, 1) if likelihood == "bernoulli" else X), X


@pytest.mark.slow(keep=5)
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb", "bernoulli"])
@pytest.mark.parametrize("name", MODELS)
def test_expected_counts_and_their_slopes_are_finite_at_any_position(name, likelihood):
    model, _ = _fitted(name, likelihood)
    far = np.array([[8.0], [1e3], [1e10], [1e100]])
    for z in (far, -far):
        expected = model.inverse_transform(z)
        assert np.isfinite(expected).all()
        assert (expected >= 0).all()
        np.testing.assert_array_equal(expected, model.trajectories(z))
        assert np.isfinite(model.derivatives(z)).all()


def test_samples_of_steep_curves_are_whole_numbers():
    model, _ = _fitted("encoder", "nb")
    model.module_.decoder.loadings.fill_(300.0)
    sample = model.sample(50, random_state=0)
    assert np.isfinite(sample).all()
    np.testing.assert_array_equal(sample, np.floor(sample))


def test_an_error_names_the_first_position_without_a_finite_value():
    model, _ = _fitted("encoder", "gaussian")
    with pytest.raises(ValueError, match=r"At 1 of 3 positions .* row 1, z=\(1e\+308\)"):
        model.trajectories([0.0, 1e308, 1.0])
    model.module_.decoder.loadings.fill_(1e3)
    with pytest.raises(ValueError, match=r"float32 numbers; the first is row 0, z=\(1e\+38\)"):
        model.inverse_transform(np.array([[1e38]], dtype=np.float32))


def test_counts_beyond_whole_numbers_of_double_precision_are_refused():
    model, X = _fitted("encoder", "poisson")
    X[3, 1] = 1e19
    for method in (model.transform, model.fit):
        with pytest.raises(ValueError, match=r"Counts above 2\*\*53.* 1 entries, in column 1"):
            method(X)
