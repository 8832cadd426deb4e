"""Sample weights: a sample of weight w is w copies of it, in whatever a fit computes of its rows."""

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_validate

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_progression
from skdevae.table.weighted_rows import WeightedRows

N = 32
_QUICK = {"max_epochs": 4, "random_state": 0}
_AXIS = {**_QUICK, "n_grid_points": 25, "n_knots": 17, "hidden_layer_sizes": (4,)}
_ENCODER = {**_QUICK, "hidden_layer_sizes": (4,), "encoder_hidden_layer_sizes": (4,), "n_importance_samples": 8}
MODELS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_AXIS),
    "BasisDeVAE, turns": BasisDeVAEClusterer(leveling_off="turn", **_AXIS),
    "BasisVAE": BasisVAEClusterer(3, **_AXIS),
    "DeVAE": DeVAETransformer(**_AXIS),
    "DeVAE, two axes": DeVAETransformer(2, **{**_AXIS, "n_grid_points": 9}),
    "DeVAE, encoder": DeVAETransformer(inference="amortized", **{**_ENCODER, "n_knots": 9, "batch_size": 16}),
    "VAE": VAETransformer(2, early_stopping=True, batch_size=16, **_ENCODER),
    "autoencoder": VAETransformer(1, variational=False, batch_size=1000, **_ENCODER),
    "VampVAE": VampVAE(2, batch_size=16, **_ENCODER),
    "DGD": DGDEmbedder(
        2,
        n_clusters=2,
        n_init=1,
        mixture_init="kmeans",
        n_importance_samples=8,
        **{**_QUICK, "hidden_layer_sizes": (4,)},
    ),
}
#: models that draw nothing of which there would be more with more rows: exact inference, and one without a posterior
WITHOUT_NOISE = ["BasisDeVAE", "BasisDeVAE, turns", "BasisVAE", "DeVAE", "DeVAE, two axes", "autoencoder"]
#: one of each way to fit
FEW = ["BasisVAE", "DeVAE", "VampVAE", "DGD"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*lie beyond the range of the training samples"),
]


def tables(likelihood, seed=0):
    """A table with gaps, integer weights, some zero, and size factors (None for measurements)."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, N)
    table = make_progression(N, random_state=seed).data[:, ::5]
    sizes = None
    if likelihood != "gaussian":
        sizes = generator.uniform(0.5, 2.0, N)
        table = generator.poisson(sizes[:, None] * np.exp(2 + table)).astype(float)
    table[generator.random(table.shape) < 0.05] = np.nan
    return table, weights, sizes


def model_for(name, likelihood):
    return clone(MODELS[name]).set_params(likelihood=likelihood)


def fitted(model, table, sizes=None, weights=None):
    of_rows = {} if sizes is None else {"size_factors": sizes}
    return clone(model).fit(table, sample_weight=weights, **of_rows)


def answers(model, table, sizes=None):
    """Latents of rows, the curves, and the fitted objective, where there are any."""
    of_rows = {} if sizes is None else {"size_factors": sizes}
    latents = model.transform(table, **of_rows)
    found = {"latents": latents, "curves": model.trajectories(latents[:5])}
    for name in ("lower_bound_", "log_posterior_", "noise_scale_", "dispersion_", "responsibilities_", "n_iter_"):
        if hasattr(model, name):
            found[name] = getattr(model, name)
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("name", "likelihood"), [(name, "gaussian") for name in MODELS] + [(name, "nb") for name in FEW]
)
def test_weights_are_repetitions(name, likelihood):
    table, weights, sizes = tables(likelihood)
    often = np.random.default_rng(1).permutation(np.repeat(np.arange(N), weights))
    model = model_for(name, likelihood)
    weighted = fitted(model, table, sizes, weights)
    repeated = fitted(model, table[often], None if sizes is None else sizes[often])
    assert_same(answers(weighted, table, sizes), answers(repeated, table, sizes))


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", FEW)
def test_weights_are_repetitions_of_sparse_rows_of_their_own_totals(name):
    table, weights, _ = tables("nb")
    table, often = sp.csr_array(np.nan_to_num(table)), np.repeat(np.arange(N), weights)
    model = model_for(name, "poisson").set_params(size_factors="sum")
    weighted, repeated = fitted(model, table, weights=weights), fitted(model, table[often])
    assert_same(answers(weighted, table), answers(repeated, table))


@pytest.mark.parametrize("name", ["DeVAE", "VampVAE", "DGD"])
def test_weights_are_repetitions_of_rows_with_covariates(name):
    table, weights, _ = tables("gaussian")
    generator, often = np.random.default_rng(2), np.repeat(np.arange(N), weights)[::-1]
    covariates = generator.normal(100, 3, (N, 2))
    weighted = clone(MODELS[name]).fit(table, sample_weight=weights, covariates=covariates)
    repeated = clone(MODELS[name]).fit(table[often], covariates=covariates[often])
    ours, theirs = (model.transform(table, covariates=covariates) for model in (weighted, repeated))
    assert_array_equal(ours, theirs)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("name", "likelihood"),
    [(name, "gaussian") for name in WITHOUT_NOISE] + [("BasisDeVAE", "nb"), ("BasisVAE", "nb"), ("DeVAE", "poisson")],
)
def test_every_sum_over_rows_counts_weights(name, likelihood, monkeypatch):
    """The same, if copies are not found: nothing that is shared by the two fits knows of weights."""
    table, weights, sizes = tables(likelihood, seed=1)
    often = np.repeat(np.arange(N), weights)
    model = model_for(name, likelihood)
    weighted = fitted(model, table, sizes, weights)
    with monkeypatch.context() as patched:
        patched.setattr("skdevae._base.fitting.rows_of_a_fit", one_by_one)
        repeated = fitted(model, table[often], None if sizes is None else sizes[often])
    ours, theirs = (answers(each, table, sizes) for each in (weighted, repeated))
    # A search for shapes makes more of rounding (on some processors .018 of a curve), and so does a share of draws, in
    # which behaviours are judged.
    tolerance = {"BasisVAE": 3e-2, "BasisDeVAE": 2e-3}.get(name, 1e-4)
    for field, values in ours.items():
        assert_allclose(values, theirs[field], rtol=tolerance, atol=tolerance, err_msg=field)


def one_by_one(X, weights, *_):
    every = np.arange(X.shape[0])
    return WeightedRows(every, np.ones(X.shape[0]), every)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", FEW)
def test_samples_without_weight_are_as_if_absent(name):
    table, _, sizes = tables("nb")
    weights = np.arange(N) % 3 > 0
    table[0] = np.nan  # not even their entries matter
    table[3] *= 1000
    model = model_for(name, "nb")
    weighted = fitted(model, table, sizes, weights)
    removed = fitted(model, table[weights], sizes[weights])
    assert_same(answers(weighted, table[1:], sizes[1:]), answers(removed, table[1:], sizes[1:]))


@pytest.mark.parametrize("name", ["DeVAE", "VampVAE"])
def test_weights_of_one_are_no_weights(name):
    table, _, _ = tables("gaussian")
    one, other = fitted(MODELS[name], table, weights=np.ones(N)), fitted(MODELS[name], table)
    assert_same(answers(one, table), answers(other, table))


@pytest.mark.parametrize("name", ["DeVAE", "VampVAE"])
def test_the_score_is_a_weighted_mean(name):
    table, weights, _ = tables("gaussian")
    model = fitted(MODELS[name], table)
    log_likelihood = model.score_samples(table)
    assert_allclose(model.score(table), log_likelihood.mean())
    assert_allclose(model.score(table, sample_weight=weights), np.average(log_likelihood, weights=weights))
    assert_allclose(model.score(table, sample_weight=weights), log_likelihood[np.repeat(np.arange(N), weights)].mean())
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
        model.score(table, sample_weight=np.zeros(N))


@pytest.mark.parametrize("weights", [np.zeros(N), -np.ones(N), np.ones(7)], ids=["zero", "negative", "few"])
@pytest.mark.parametrize("name", ["DeVAE", "DGD"])
def test_weights_are_validated(name, weights):
    table = tables("gaussian")[0]
    with pytest.raises(ValueError, match=r"[Ss]ample.weight|[Nn]egative"):
        fitted(MODELS[name], table, weights=weights)


def test_early_stopping_holds_out_a_share_of_the_weight():
    model = MODELS["VAE"]
    for seed in range(20):
        weights = np.random.default_rng(seed).uniform(0, 2, 50)
        held_out = model._held_out(weights, seed)
        share = weights[held_out].sum() / weights.sum()
        assert 0.1 <= share < 0.1 + weights.max() / weights.sum()
        assert model._held_out(np.ones(50), seed).sum() == 5
    table = np.vstack([tables("gaussian")[0]] * 3)
    training, held_out = fitted_rows(model, table)
    assert len(training.table) == N  # copies are on one side all together
    assert 0 < held_out.sum() < N / 2


def fitted_rows(model, table):
    """The training table of a fit, and which of its rows are held out."""
    found = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model), "_learn", recorded(type(model)._learn, found))
        clone(model).fit(table)
    return found[0]


def recorded(function, found):
    """A function whose results are noted."""

    def noting(*arguments):
        found.append(function(*arguments))
        return found[-1]

    return noting


@pytest.mark.parametrize("sign", [1, -1])
def test_a_variable_points_the_axis_by_weight(sign):
    """It rises among the samples that count, and falls among the others, of which there are more."""
    table = make_progression(N, random_state=0).data[:, ::5]
    position = fitted(MODELS["DeVAE"], table).transform(table)[:, 0]
    heavy = np.arange(N) % 4 == 0
    told = sign * np.where(heavy, position, -position)
    weights = np.where(heavy, 20.0, 1.0)
    for w, expected in ((weights, sign), (np.ones(N), -sign)):
        found = clone(MODELS["DeVAE"]).fit(table, orientation=told, sample_weight=w).transform(table)[:, 0]
        assert np.sign(np.corrcoef(found, position)[0, 1]) == expected


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["DeVAE", "VampVAE", "DGD"])
def test_cross_validation_passes_weights_on(name):
    table, _, _ = tables("gaussian")
    weights, split = np.random.default_rng(3).uniform(0.5, 2, N), KFold(2)
    model = clone(MODELS[name])
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, table, cv=split, params={"sample_weight": weights})["test_score"]
    for score, (train, test) in zip(scores, split.split(table), strict=True):
        alone = fitted(MODELS[name], table[train], weights=weights[train])
        assert score == alone.score(table[test], sample_weight=weights[test])
