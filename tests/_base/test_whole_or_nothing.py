"""A fit is whole, or it has not happened: what fails leaves the last fit as it was, to the bit."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

WINE, SPECIES = load_wine(return_X_y=True)

ESTIMATORS = {
    "BasisDeVAE": lambda **more: BasisDeVAEClusterer(max_epochs=4, random_state=0, **more),
    "BasisDeVAE, amortized": lambda **more: BasisDeVAEClusterer(
        inference="amortized", max_epochs=2, random_state=0, **more
    ),
    "BasisVAE": lambda **more: BasisVAEClusterer(4, max_epochs=4, random_state=0, **more),
    "DeVAE": lambda **more: DeVAETransformer(max_epochs=4, random_state=0, **more),
    "VAE": lambda **more: VAETransformer(2, max_epochs=2, n_importance_samples=16, random_state=0, **more),
    "VampVAE": lambda **more: VampVAE(2, max_epochs=2, n_importance_samples=16, random_state=0, **more),
    "DGD": lambda **more: DGDEmbedder(
        2,
        n_clusters=3,
        hidden_layer_sizes=(8,),
        max_epochs=4,
        n_init=1,
        n_importance_samples=16,
        random_state=0,
        **more,
    ),
}


class Stumble(Callback):
    """Raises at the end of an epoch once it is told to."""

    def __init__(self):
        self.armed = False

    def on_epoch_end(self, net, **kwargs):
        if self.armed:
            raise RuntimeError("a fault in a user's callback")


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_failed_refit_leaves_the_last_fit_as_it_was(name):
    stumble = Stumble()
    model = ESTIMATORS[name](callbacks=[stumble]).fit(WINE)
    before = dict(vars(model))
    scores, latents = model.score_samples(WINE), model.transform(WINE)
    stumble.armed = True
    # another table altogether: other units, other columns
    with pytest.raises(RuntimeError, match="user's callback"):
        model.fit(100 * WINE[:, :7] + 3)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[attribute] is value for attribute, value in before.items())
    assert_array_equal(model.transform(WINE), latents)
    assert_array_equal(model.score_samples(WINE), scores)


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_refit_that_is_refused_at_once_leaves_the_last_fit_too(name):
    model = ESTIMATORS[name]().fit(WINE)
    latents = model.transform(WINE)
    empty_row = WINE[:, :5].copy()
    empty_row[2] = np.nan
    with pytest.raises(ValueError, match="row 2"):
        model.fit(empty_row)
    assert model.n_features_in_ == WINE.shape[1]
    assert_array_equal(model.transform(WINE), latents)


#: methods that need a fitted estimator, and what they may be asked
QUESTIONS = {
    "transform": (WINE,),
    "trajectories": ([0.0],),
    "derivatives": ([0.0],),
    "inverse_transform": ([[0.0]],),
    "sample": (),
    "sample_latent": (),
    "score": (WINE,),
    "elbo": (WINE,),
    "posterior": (WINE,),
    "conditional_log_likelihood": (WINE,),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_after_a_failed_first_fit_an_estimator_is_not_fitted(name):
    stumble = Stumble()
    stumble.armed = True
    model = ESTIMATORS[name](callbacks=[stumble])
    with pytest.raises(RuntimeError, match="user's callback"):
        model.fit(WINE)
    assert not [attribute for attribute in vars(model) if attribute.endswith("_")]
    labelling = ["predict_features" if hasattr(model, "predict_features") else "predict"]
    questions = QUESTIONS | {name: (WINE,) for name in labelling if hasattr(model, name)}
    for method, arguments in questions.items():
        with pytest.raises(NotFittedError):
            getattr(model, method)(*arguments)


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.*lie beyond z_max:sklearn.exceptions.ConvergenceWarning")  # so short a fit
@pytest.mark.parametrize("name", ESTIMATORS)
def test_nothing_of_an_earlier_fit_stays_behind(name):
    counts = np.round(WINE - WINE.min(0))
    model = ESTIMATORS[name]().fit(WINE)
    assert hasattr(model, "noise_scale_")
    model.set_params(likelihood="poisson").fit(counts)
    fresh = ESTIMATORS[name](likelihood="poisson").fit(counts)
    assert vars(model).keys() == vars(fresh).keys()
    assert not hasattr(model, "noise_scale_")
    assert_array_equal(model.transform(counts), fresh.transform(counts))


def test_classes_of_an_earlier_fit_do_not_stay_behind():
    model = DGDEmbedder(2, n_clusters=3, supervised=True, hidden_layer_sizes=(8,), max_epochs=2, random_state=0)
    model.fit(WINE, SPECIES)
    assert_array_equal(model.classes_, [0, 1, 2])
    assert not hasattr(model.set_params(supervised=False).fit(WINE), "classes_")


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_a_user_has_set_beside_parameters_outlives_a_fit(name):
    model = ESTIMATORS[name]().set_output(transform="pandas")
    model.note = "mine"
    latents = model.fit(WINE).fit(WINE).transform(WINE)
    assert list(latents.columns) == list(model.get_feature_names_out())
    assert model.note == "mine"


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_data_frames_go_back_through_the_model_without_a_warning(name):
    model = ESTIMATORS[name]().set_output(transform="pandas").fit(WINE)
    latents = model.transform(WINE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restored = model.inverse_transform(latents)
    assert_array_equal(restored, model.inverse_transform(latents.to_numpy()))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("device", ["cuda:99", "mps", "meta", "abacus"])
def test_a_device_that_cannot_be_used_is_one_clear_error(name, device):
    with pytest.raises(ValueError, match=rf"^device='{device}' .*device='auto'"):
        ESTIMATORS[name](device=device).fit(WINE)
