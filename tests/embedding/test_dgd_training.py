"""DGDEmbedder: starts, training, and fits that end early or fail."""

import numpy as np
import pytest
from embedding.dgd_cases import blobs, fitted, log_components, log_likelihood, quick, table_for
from numpy.testing import assert_allclose
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skdevae.training.interrupts import FitInterrupted


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_the_published_start_fits(likelihood):
    published = {"latent_init": "zero", "mixture_init": "softball", "refit_mixture": False, "may_be_empty": False}
    model = quick(likelihood=likelihood, **published).fit(table_for(likelihood))
    assert model.n_clusters_ == 3
    assert np.isfinite(model.score(table_for(likelihood)))
    losses = model.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    # without a mixture there is nothing to tell apart at the start
    assert quick(latent_init="zero", n_clusters=None, max_epochs=1).fit(blobs()[0]).n_clusters_ == 1


@pytest.mark.parametrize("mixture_init", ["gmm", "kmeans"])
def test_a_mixture_cannot_be_fitted_to_zeros(mixture_init):
    with pytest.raises(ValueError, match=r"latent_init='zero'.*latent_init='pca', or mixture_init='softball'"):
        quick(latent_init="zero", mixture_init=mixture_init).fit(blobs()[0])


def test_fixed_covariances_stay_where_they_start():
    settings = {"covariance_type": "fixed", "mixture_init": "softball", "softball_scale": 2.0, "may_be_empty": False}
    model = quick(**settings).fit(blobs()[0])
    assert_allclose(model.covariances_, (0.2 * 2.0 / 3) ** 2, rtol=1e-5)
    assert np.ptp(quick(**{**settings, "covariance_type": "diag"}).fit(blobs()[0]).covariances_) > 1e-4
    isotropic = quick(covariance_type="isotropic").fit(blobs()[0]).covariances_
    assert_allclose(isotropic[:, 0], isotropic[:, 1], rtol=1e-12)
    assert np.ptp(isotropic[:, 0]) > 1e-3


def test_a_concentrated_prior_draws_weights_to_equal_ones():
    models = fitted(), *(quick(dirichlet_alpha=alpha).fit(blobs()[0]) for alpha in (3.0, 1000.0))
    spread = [np.ptp(model.weights_) for model in models]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.01


def test_history_has_every_term_of_the_loss():
    for representation in ("map", "variational"):
        model = fitted(representation=representation)
        assert len(model.history_) == model.n_iter_ == 6
        for row in model.history_:
            terms = row["train_reconstruction"] + row["train_latent"] + row["train_parameters"] / 120
            assert_allclose(row["train_loss"], terms, rtol=1e-4)
    unchanged = quick(tol=1e6, n_iter_no_change=3).fit(blobs()[0])
    assert unchanged.n_iter_ == 4


@pytest.mark.parametrize("prior_weight", ["n_samples", 1.0])
def test_log_posterior_is_the_objective(prior_weight):
    """Eq. 3 of the paper, term by term, a sample."""
    parameters = {"prior_weight": prior_weight, "dirichlet_alpha": 2.0, "softball_sharpness": 3.0, "weight_decay": 0.1}
    model = quick(**parameters).fit(blobs()[0])
    z, module = model.embedding_, model.module_
    of_samples = log_likelihood(model, blobs()[0], z).diagonal() + logsumexp(log_components(model, z), axis=1)
    radius = module.mixture.softball.scale  # in two dimensions, the ball's volume is an area
    of_means = -np.log(np.pi * radius**2) - np.logaddexp(0, 3 * (np.linalg.norm(model.means_, axis=1) / radius - 1))
    of_weights = np.log(model.weights_).sum() + gammaln(6) - 3 * gammaln(2)
    of_variances = norm.logpdf(-np.log(model.covariances_), module.mixture.log_precision_mean.numpy())
    of_mixture = of_means.sum() + of_weights + of_variances.sum()
    squares = sum(float(weights.square().sum()) for weights in module.decoder.parameters() if weights.ndim == 2)
    of_parameters = (120 if prior_weight == "n_samples" else 1.0) * of_mixture - 0.5 * 120 * 0.1 * squares
    assert_allclose(model.log_posterior_, of_samples.mean() + of_parameters / 120, rtol=0, atol=1e-3)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_training_raises_the_posterior(likelihood):
    # log p(phi) counts the components: all of them have to stay
    fits = [fitted(likelihood, max_epochs=epochs, may_be_empty=False) for epochs in (1, 6, 40)]
    values = [model.log_posterior_ for model in fits]
    assert np.isfinite(values).all()
    assert values[0] < values[1] < values[2]


class EpochsAsked(Callback):
    """Notes how many epochs a fit would take, and ends it."""

    def on_epoch_begin(self, net, **kwargs):
        self.max_epochs = net.max_epochs
        raise KeyboardInterrupt


def test_epochs_by_default_make_enough_steps():
    for batch_size, expected in ((120, 2000), (10, 200), (60, 1000)):
        asked = EpochsAsked()
        quick(max_epochs=None, batch_size=batch_size, callbacks=[asked], refit_mixture=False).fit(blobs()[0])
        assert asked.max_epochs == expected


# ---- fits that end early, or fail -----------------------------------------------------------------------------------


class KeyboardAt(Callback):
    """The keyboard itself: raised while a batch is being worked on."""

    def __init__(self, monkeypatch, epoch):
        self.monkeypatch, self.epoch = monkeypatch, epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > self.epoch:

            def stopped(*args, **kwargs):
                raise KeyboardInterrupt

            self.monkeypatch.setattr(net, "train_step", stopped)


class Stop(Callback):
    """Ends training in skorch's way."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("representation", ["map", "variational"])
def test_an_interrupted_fit_keeps_what_it_has_learned(representation, monkeypatch):
    table = blobs()[0]
    model = quick(callbacks=[KeyboardAt(monkeypatch, 4)], representation=representation)
    with pytest.raises(FitInterrupted, match="interrupted after 4 epochs"):
        model.fit(table)
    assert model.n_iter_ == len(model.history_) == 4
    assert_allclose(model.transform(table), model.embedding_, rtol=0, atol=1e-8)
    assert np.isfinite([model.score(table), model.log_posterior_]).all()


def test_a_callback_that_stops_a_fit_does_not_interrupt_it():
    # skorch's own way to end training: no warning, which would be an error here
    model = quick(callbacks=[Stop()]).fit(blobs()[0])
    assert model.n_iter_ == len(model.history_) == 4


def test_a_fit_that_fails_leaves_the_last_one_as_it_was():
    table, other = blobs()[0], 100 * blobs()[0]
    model = quick(max_epochs=2).fit(table)
    before = model.transform(table), model.score_samples(table), model.embedding_, model.labels_
    with pytest.raises(ValueError, match="stopped being finite"):
        model.set_params(learning_rate=1e30).fit(other)
    after = model.transform(table), model.score_samples(table), model.embedding_, model.labels_
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one, two)
    never = quick(learning_rate=1e30)
    with pytest.raises(ValueError, match="stopped being finite"):
        never.fit(table)
    with pytest.raises(NotFittedError):
        never.transform(table)
    with pytest.raises(NotFittedError):
        never.sample()
