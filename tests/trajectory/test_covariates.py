"""Covariates of estimators with an axis: what they take off it, and how sure their effects are."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from scipy.stats import poisson, spearmanr

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer

ESTIMATORS = {"BasisDeVAE": BasisDeVAEClusterer, "BasisVAE": BasisVAEClusterer, "DeVAE": DeVAETransformer}
#: counts, zeros and ones need more rows for an axis to be seen
N = {"gaussian": 150, "poisson": 150, "nb": 200, "bernoulli": 500}
D = 10


def simulated(likelihood, seed=0, effect=0.8, n=None):
    """A table with rising, falling and peaked features, a batch that moves all of them, true latents and effects."""
    random = np.random.default_rng(seed)
    n = N[likelihood] if n is None else n
    z, batch = random.normal(size=n), random.random(n) < 0.4
    shapes = [np.tanh(z), -np.tanh(1.4 * z), 1.5 * np.exp(-(z**2))]
    curves = np.stack([(2.5 if likelihood == "bernoulli" else 1.2) * shapes[k % 3] for k in range(D)], 1)
    effects = effect * random.normal(size=D)
    eta = curves + np.outer(batch, effects)
    if likelihood == "gaussian":
        values = 5 + 2 * (eta + 0.4 * random.normal(size=eta.shape))
        effects = 2 * effects
    elif likelihood == "bernoulli":
        values = random.random(eta.shape) < 1 / (1 + np.exp(-eta))
    else:
        mean = np.exp(1.2 + eta)
        values = random.poisson(mean) if likelihood == "poisson" else random.negative_binomial(4, 4 / (4 + mean))
    frame = pd.DataFrame(np.asarray(values, dtype=float), columns=[f"m{k}" for k in range(D)])
    frame.insert(3, "batch", np.where(batch, "second", "first"))
    return frame, z, effects


@pytest.fixture(scope="module", params=["gaussian", "poisson", "nb", "bernoulli"])
def fitted(request):
    frame, z, effects = simulated(request.param)
    model = BasisDeVAEClusterer(likelihood=request.param, covariates=["batch"], random_state=0, max_epochs=80)
    return model.fit(frame), frame, z, effects


@pytest.mark.slow(keep=1)
def test_the_axis_is_that_of_the_latent_and_not_of_the_batch(fitted):
    model, frame, z, _ = fitted
    positions = model.transform(frame)[:, 0]
    least = {"gaussian": 0.97, "poisson": 0.95, "nb": 0.93, "bernoulli": 0.85}[model.likelihood]
    assert abs(spearmanr(positions, z)[0]) > least
    assert abs(spearmanr(positions, frame["batch"] == "second")[0]) < 0.15


def test_effects_lie_where_their_standard_errors_say(fitted):
    model, _, _, effects = fitted
    found, errors = model.covariate_effects_, model.covariate_standard_errors_
    assert list(found.columns) == list(errors.columns) == ["batch[second]"]
    assert list(found.index) == [f"m{k}" for k in range(D)]
    assert (np.abs(found["batch[second]"] - effects) < 4 * errors["batch[second]"]).all()
    assert (errors > 0).all(axis=None)


def test_samples_with_the_batchs_effects_taken_off_are_where_they_were():
    # exact for measurements: the same curves, the same residuals
    frame, _, _ = simulated("gaussian")
    model = BasisDeVAEClusterer(covariates=["batch"], random_state=0, max_epochs=40).fit(frame)
    moved = frame.copy()
    shift = model.covariate_effects_["batch[second]"]
    second = frame["batch"] == "second"
    moved.loc[second, shift.index] -= shift.to_numpy()
    moved["batch"] = "first"
    assert_agree(model.transform(moved), model.transform(frame), computed_in=np.float32)
    assert_agree(model.score_samples(moved), model.score_samples(frame), computed_in=np.float32)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli"])
def test_scores_are_integrals_over_the_latent_of_each_samples_own_curves(likelihood):
    frame, _, _ = simulated(likelihood, n=60)
    model = BasisDeVAEClusterer(likelihood=likelihood, covariates=["batch"], random_state=0, max_epochs=20).fit(frame)
    z = np.linspace(-8, 8, 2001)
    x, levels = frame.drop(columns="batch").to_numpy(), frame["batch"].to_numpy()
    for level in ("first", "second"):
        means = model.inverse_transform(z[:, None], covariates=pd.DataFrame({"batch": [level] * len(z)}))
        rows = x[levels == level]
        if likelihood == "poisson":
            log_prob = poisson.logpmf(rows[:, None], means).sum(2)
        else:
            log_prob = np.where(rows[:, None] > 0, np.log(means), np.log1p(-means)).sum(2)
        prior = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
        joint = log_prob + prior + np.log(z[1] - z[0])
        expected = np.logaddexp.reduce(joint, axis=1)
        np.testing.assert_allclose(model.score_samples(frame)[levels == level], expected, atol=1e-3)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_columns_of_x_and_facts_of_rows_are_the_same(name, likelihood):
    frame, _, _ = simulated(likelihood, n=80)
    settings = {"likelihood": likelihood, "random_state": 0, "max_epochs": 4}
    ours = ESTIMATORS[name](covariates="batch", **settings).fit(frame)
    table, batch = frame.drop(columns="batch"), frame["batch"]
    theirs = ESTIMATORS[name](**settings).fit(table, covariates=batch)
    assert_agree(theirs.transform(table, covariates=batch), ours.transform(frame))
    assert_agree(theirs.score(table, covariates=batch), ours.score(frame))
    assert_agree(theirs.covariate_effects_, ours.covariate_effects_)
    with pytest.raises(ValueError, match="batch"):
        theirs.score(table)


def test_sparse_counts_have_covariates():
    frame, _, _ = simulated("nb", n=80)
    table, batch = frame.drop(columns="batch").to_numpy(), frame["batch"].to_numpy()
    settings = {"likelihood": "nb", "size_factors": "sum", "random_state": 0, "max_epochs": 4}
    dense, sparse = (BasisDeVAEClusterer(**settings).fit(X, covariates=batch) for X in (table, sp.csr_array(table)))
    ours = sparse.score(sp.csr_array(table), covariates=batch)
    assert_agree(ours, dense.score(table, covariates=batch), computed_in=np.float32)


def test_which_level_is_the_reference_changes_no_answer():
    frame, _, _ = simulated("gaussian", n=100)
    other = frame.assign(batch=frame["batch"].map({"first": "z", "second": "a"}))
    ours, theirs = (
        BasisDeVAEClusterer(covariates=["batch"], random_state=0, max_epochs=10).fit(X) for X in (frame, other)
    )
    np.testing.assert_allclose(theirs.transform(other), ours.transform(frame), atol=2e-3)
    np.testing.assert_allclose(
        theirs.covariate_effects_["batch[z]"], -ours.covariate_effects_["batch[second]"], atol=5e-3
    )


def test_numbers_act_on_measurements_per_unit():
    random = np.random.default_rng(3)
    frame, _, _ = simulated("gaussian", n=200)
    age = random.normal(50, 12, 200)
    slopes = random.normal(0, 0.1, D)
    frame[[f"m{k}" for k in range(D)]] += np.outer(age, slopes)
    model = DeVAETransformer(covariates={"batch": "categorical", "age": "numeric"}, random_state=0, max_epochs=80)
    model.fit(frame.assign(age=age))
    found, errors = model.covariate_effects_["age"], model.covariate_standard_errors_["age"]
    assert (np.abs(found - slopes) < 4 * errors).all()


def test_counts_take_covariates_of_a_few_values():
    random = np.random.default_rng(0)
    counts, age = random.poisson(3, (100, 5)), random.normal(size=100)
    with pytest.raises(ValueError, match=r"64 different combinations of values at most, and these have 100"):
        BasisDeVAEClusterer(likelihood="poisson").fit(counts, covariates=age)
    amortized = DeVAETransformer(likelihood="poisson", inference="amortized", max_epochs=3, random_state=0)
    amortized.fit(counts, covariates=age)
    assert np.isfinite(amortized.score(counts, covariates=age))
    with pytest.raises(AttributeError, match="covariates of few values"):
        amortized.covariate_standard_errors_  # noqa: B018


def test_files_keep_effects_and_scores_to_the_bit():
    frame, _, _ = simulated("gaussian", n=60)
    model = BasisDeVAEClusterer(covariates="batch", random_state=0, max_epochs=3).fit(frame)
    again = pickle.loads(pickle.dumps(model))
    assert again.score(frame) == model.score(frame)
    pd.testing.assert_frame_equal(again.covariate_effects_, model.covariate_effects_)
    pd.testing.assert_frame_equal(again.covariate_standard_errors_, model.covariate_standard_errors_)


def test_without_covariates_there_are_no_effects():
    model = DeVAETransformer(random_state=0, max_epochs=2).fit(np.random.default_rng(0).normal(size=(30, 4)))
    for name in ("covariate_effects_", "covariate_standard_errors_"):
        with pytest.raises(AttributeError, match="without covariates"):
            getattr(model, name)


def test_monotone_features_are_those_that_are_modelled():
    frame, _, _ = simulated("gaussian", n=60)
    model = DeVAETransformer(monotonic_cst="increasing", covariates="batch", random_state=0, max_epochs=2).fit(frame)
    assert model.monotonic_cst_.tolist() == [1] * D
    named = DeVAETransformer(monotonic_cst={"m9": -1}, covariates="batch", random_state=0, max_epochs=2).fit(frame)
    assert named.monotonic_cst_.tolist() == [0] * (D - 1) + [-1]
    with pytest.raises(ValueError, match=r"how column 'batch' of X behaves.*covariate"):
        DeVAETransformer(monotonic_cst={"batch": 1}, covariates="batch").fit(frame)
