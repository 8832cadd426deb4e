"""Covariates in models with neural decoders: however they are given, and what latents and densities are given them."""

import io
import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from agreement import assert_agree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import nbinom, norm
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skdevae import DGDEmbedder, VAETransformer, VampVAE

N, D = 60, 5
NAMES = [f"gene {j}" for j in range(D)]
CLASSES = {"vae": VAETransformer, "vamp": VampVAE, "dgd": DGDEmbedder}


def quick(kind, n_components=2, **parameters):
    """An estimator for laws that hold however long it trains."""
    settings = {"hidden_layer_sizes": (8,), "max_epochs": 3, "n_importance_samples": 32, "random_state": 0}
    if kind == "dgd":
        settings |= {"n_clusters": 3, "n_init": 2}
    else:
        settings |= {"encoder_hidden_layer_sizes": (8,)}
    return CLASSES[kind](n_components, **{**settings, **parameters})


@cache
def covariates():
    random = np.random.default_rng(0)
    return pd.DataFrame({"batch": random.choice(["b", "a", "c"], N, p=[0.5, 0.3, 0.2]), "age": random.normal(50, 9, N)})


@cache
def counts():
    random = np.random.default_rng(1)
    shares = random.dirichlet(np.ones(D), 3)[random.integers(3, size=N)]
    means = 60 * shares * np.where(covariates()["batch"] == "b", 2.0, 1.0)[:, None]
    return random.negative_binomial(4, 4 / (4 + means)).astype(float) + np.eye(N, D)


@cache
def measurements():
    random = np.random.default_rng(2)
    effects = random.normal(0, 1, (2, D))
    design = np.column_stack([covariates()["batch"] == "b", covariates()["age"] / 9])
    return design @ effects + random.normal(0, 1, (N, 2)) @ random.normal(0, 1, (2, D)) + random.normal(0, 0.3, (N, D))


def table_for(likelihood):
    return measurements() if likelihood == "gaussian" else counts()


@cache
def fitted(kind, likelihood="nb", n_components=2, **parameters):
    """Shared between tests, which must not change it."""
    model = quick(kind, n_components, likelihood=likelihood, **parameters)
    return model.fit(table_for(likelihood), covariates=covariates())


def with_columns(likelihood="nb"):
    """The table with its covariates as columns of it, one of them first."""
    table = pd.DataFrame(table_for(likelihood), columns=NAMES)
    return pd.concat([covariates()[["age"]], table, covariates()[["batch"]]], axis=1)


# ---- however they are given -----------------------------------------------------------------------------------------


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    "kind, chosen",
    [("vae", ["batch", "age"]), ("vamp", [-1, 0]), ("dgd", make_column_selector(pattern="^[ab]"))],
    ids=CLASSES,
)
def test_columns_of_the_table_are_what_is_given_beside_it(kind, chosen):
    beside, columns = fitted(kind), quick(kind, likelihood="nb", covariates=chosen).fit(with_columns())
    if callable(chosen):  # which takes them in the order of the table
        beside = quick(kind, likelihood="nb").fit(counts(), covariates=covariates()[["age", "batch"]])
    assert columns.n_features_in_ == D + 2
    assert list(columns.feature_names_in_) == list(with_columns())
    rows = slice(0, 7)
    assert_allclose(
        columns.transform(with_columns()[rows]), beside.transform(counts()[rows], covariates=covariates()[rows])
    )
    assert columns.inverse_transform(np.zeros((1, 2))).shape == (1, D)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", CLASSES)
def test_sparse_tables_and_labels_are_as_good(kind):
    batch = covariates()["batch"]
    dense = quick(kind, likelihood="nb").fit(counts(), covariates=pd.DataFrame({"batch": batch.astype("category")}))
    sparse = quick(kind, likelihood="nb").fit(sp.csr_array(counts()), covariates=batch.to_numpy())
    assert_agree(
        sparse.transform(sp.csr_array(counts()), covariates=list(batch)),
        dense.transform(counts(), covariates={"batch": batch.to_numpy()}),
        computed_in=np.float32,
    )


def test_numbers_of_an_array_can_be_declared_categories():
    codes = covariates()["batch"].map({"a": 1, "b": 2, "c": 5}).to_numpy(float)
    array = np.column_stack([codes, counts()])
    model = quick("vamp", likelihood="nb", covariates={0: "categorical"}).fit(array)
    other = quick("vamp", likelihood="nb").fit(counts(), covariates=covariates()["batch"])
    assert_allclose(model.transform(array), other.transform(counts(), covariates=covariates()["batch"]))


@pytest.mark.parametrize("kind", CLASSES)
def test_units_of_numbers_do_not_matter(kind):
    other = covariates().assign(age=4 * covariates()["age"])  # which rounds nothing
    model = quick(kind, likelihood="nb").fit(counts(), covariates=other)
    assert_agree(model.transform(counts(), covariates=other), fitted(kind).transform(counts(), covariates=covariates()))


def test_pipelines_searches_and_cross_validation_take_them_along():
    model = make_pipeline(
        FunctionTransformer(feature_names_out="one-to-one"),
        quick("vae", likelihood="nb", covariates=["batch", "age"], size_factors="sum"),
    )
    scores = cross_val_score(model, with_columns(), cv=2, error_score="raise")
    assert np.isfinite(scores).all()
    choices = {"covariates": [["batch"], ["age"]]}
    dropped = with_columns().drop(columns=["age"])
    search = GridSearchCV(
        quick("vae", likelihood="nb", covariates=["batch"]), {"unknown_covariate": ["error", "average"]}, cv=2
    ).fit(dropped)
    assert np.isfinite(search.best_score_)
    assert clone(model[-1]).set_params(covariates=choices["covariates"][0]).covariates == ["batch"]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_goes_on_knowing_them_after_loading(kind):
    model = quick(kind, likelihood="nb", covariates=["batch", "age"]).fit(with_columns())
    file = io.BytesIO(pickle.dumps(model))
    loaded = pickle.load(file)
    assert_array_equal(loaded.transform(with_columns()), model.transform(with_columns()))
    with pytest.raises(ValueError, match="'batch' has levels"):
        loaded.transform(with_columns().assign(batch="z"))


# ---- what is not known ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_later_rows_need_the_covariates_of_training(kind):
    model = fitted(kind)
    with pytest.raises(ValueError, match="not given: 'batch', 'age'"):
        model.transform(counts())
    with pytest.raises(ValueError, match="not given: 'age'"):
        model.score(counts(), covariates=covariates()[["batch"]])
    with pytest.raises(ValueError, match="covariates has 3 rows, but there are 60"):
        model.transform(counts(), covariates=covariates()[:3])
    with pytest.raises(ValueError, match=r"levels .* 'z', in 60 rows"):
        model.transform(counts(), covariates=covariates().assign(batch="z"))
    with pytest.raises(ValueError, match="fitted without any"):
        quick(kind, likelihood="nb").fit(counts()).transform(counts(), covariates=covariates())


@pytest.mark.parametrize("kind", CLASSES)
def test_unknown_levels_are_average_where_that_is_asked_for(kind):
    model = pickle.loads(pickle.dumps(fitted(kind))).set_params(unknown_covariate="average")
    unknown = model.transform(counts(), covariates=covariates().assign(batch="z"))
    assert_allclose(unknown, model.transform(counts(), covariates=covariates()[["age"]]))
    assert not np.allclose(unknown, model.transform(counts(), covariates=covariates()))


# ---- latents and densities given covariates --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_rows_are_judged_one_by_one(kind):
    model = fitted(kind)
    for method in (model.transform, model.score_samples):
        together = method(counts()[:6], covariates=covariates()[:6])
        alone = [method(counts()[[row]], covariates=covariates()[row : row + 1])[0] for row in range(6)]
        assert_agree(np.array(alone), together)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_the_likelihood_is_the_integral_of_expected_values_given_covariates(kind, likelihood):
    """One latent: what ``inverse_transform`` expects at every z, and how entries scatter around it."""
    model = fitted(kind, likelihood, 1, size_factors=None, n_importance_samples=512)
    prior, rows = model.prior_mixture_, slice(0, 4)
    z = np.linspace(-12, 12, 4001) * prior.sds.max() + np.average(prior.means)
    density = (prior.weights * norm.pdf(z[:, None], prior.means[:, 0], prior.sds[:, 0])).sum(1)
    expected = np.array(
        [
            model.inverse_transform(z[:, None], covariates=covariates()[row : row + 1].to_dict("records")[0])
            for row in range(4)
        ]
    )  # (rows, z, D)
    entries = table_for(likelihood)[rows, None]
    if likelihood == "gaussian":
        log_prob = norm.logpdf(entries, expected, model.noise_scale_).sum(-1)
    else:
        size = model.dispersion_
        log_prob = nbinom.logpmf(entries, size, size / (size + expected)).sum(-1)
    integral = logsumexp(log_prob + np.log(density), axis=1) + np.log(z[1] - z[0])
    scores = model.score_samples(table_for(likelihood)[rows], covariates=covariates()[rows])
    assert_allclose(scores, integral, atol=0.02)


@pytest.mark.parametrize("kind", CLASSES)
def test_expected_values_are_average_where_nothing_is_said(kind):
    model, z = fitted(kind), np.array([[0.3, -0.2], [1.0, 0.5]])
    assert_allclose(model.inverse_transform(z), model.trajectories(z))
    at_mean_age = model.inverse_transform(z, covariates={"batch": "a", "age": covariates()["age"].mean()})
    assert_allclose(model.inverse_transform(z, covariates={"batch": "a"}), at_mean_age)
    assert not np.allclose(model.inverse_transform(z, covariates={"batch": "b"}), at_mean_age)


def test_linear_decoders_add_effects():
    """Log expected counts of a linear decoder: a number for each level, and one for each year, at every latent."""
    model = quick("vae", likelihood="poisson", decoder="linear", hidden_layer_sizes=None)
    model.fit(counts(), covariates=covariates())
    z = np.random.default_rng(0).normal(size=(6, 2))

    def logs(batch, age):
        return np.log(model.inverse_transform(z, covariates={"batch": batch, "age": age}))

    effect = logs("b", 50) - logs("a", 50)
    assert_allclose(effect, effect[:1].repeat(6, 0), atol=1e-9)
    assert_allclose(logs("b", 30) - logs("a", 30), effect, atol=1e-9)
    assert_allclose(logs("a", 70) - logs("a", 50), 2 * (logs("a", 60) - logs("a", 50)), atol=1e-9)


@pytest.mark.parametrize("estimator", ["vae", "dgd"])
def test_effects_of_a_linear_gaussian_model_shift_the_table(estimator):
    options = {"hidden_layer_sizes": ()} if estimator == "dgd" else {"decoder": "linear", "hidden_layer_sizes": None}
    model = quick(estimator, **options).fit(measurements(), covariates=covariates())
    origin = np.zeros((N, 2))
    shift = model.inverse_transform(origin, covariates=covariates()) - model.inverse_transform(origin)
    everyone_average = model.set_params(unknown_covariate="average").score_samples(measurements() - shift)
    assert_agree(model.score_samples(measurements(), covariates=covariates()), everyone_average)


def test_simulated_rows_follow_their_covariates():
    model = fitted("vamp")
    given = {"batch": "b"}
    drawn = model.sample(4000, random_state=0, covariates=given)
    Z = model.sample_latent(4000, random_state=0)
    # sizes are drawn as well: their mean is what expected counts are multiplied by
    expected = model.inverse_transform(Z, covariates=given).mean(0)
    assert_allclose(drawn.mean(0) / drawn.mean(0).sum(), expected / expected.sum(), atol=0.02)


@pytest.mark.parametrize("kind", CLASSES)
def test_sizes_of_latents_multiply_expected_counts(kind):
    sizes = np.random.default_rng(0).uniform(0.5, 2, N)
    model = quick(kind, likelihood="poisson").fit(counts(), size_factors=sizes)
    z = np.zeros((2, 2))
    small, large = model.inverse_transform(z, size_factors=[0.5, 2.0])
    assert_allclose(large, 4 * small)
    assert_allclose(
        model.inverse_transform(z, size_factors=[np.exp(np.median(np.log(sizes)))] * 2), model.inverse_transform(z)
    )


@pytest.mark.parametrize("kind", ["vamp", "dgd"])
def test_an_entry_for_sizes_needs_sizes(kind):
    with pytest.raises(ValueError, match="fitted without any"):
        quick(kind).fit(measurements()).inverse_transform(np.zeros((1, 2)), size_factors=[1.0])
    with pytest.raises(ValueError, match="one for each latent"):
        fitted(kind).inverse_transform(np.zeros((1, 2)), size_factors="sum")


# ---- what a fit makes of them ----------------------------------------------------------------------------------------


def test_rows_that_differ_in_covariates_alone_are_no_copies():
    """A fit of a deep generative decoder sees distinct rows; the order of the samples plays no part."""
    table, batch = np.repeat(counts()[:30], 2, axis=0), np.tile(["a", "b"], 30)
    model = quick("dgd", likelihood="nb").fit(table, covariates=batch)
    assert_agree(model.embedding_, model.transform(table, covariates=batch))
    order = np.random.default_rng(0).permutation(60)
    other = quick("dgd", likelihood="nb").fit(table[order], covariates=batch[order])
    assert_agree(other.embedding_, model.embedding_[order])


@pytest.mark.parametrize("kind", CLASSES)
def test_weights_are_repetitions(kind):
    times = np.random.default_rng(3).integers(0, 3, N)
    repeated = np.repeat(np.arange(N), times)
    weighted = quick(kind, likelihood="nb").fit(counts(), sample_weight=times, covariates=covariates())
    copies = quick(kind, likelihood="nb").fit(counts()[repeated], covariates=covariates().iloc[repeated])
    assert_agree(
        weighted.transform(counts()[:9], covariates=covariates()[:9]),
        copies.transform(counts()[:9], covariates=covariates()[:9]),
    )


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("kind", CLASSES)
def test_latents_do_not_say_what_covariates_say(kind):
    """Two factors, and a batch that shifts all columns by more than the factors do."""
    random = np.random.default_rng(4)
    n = 200
    batch, Z = random.random(n) < 0.4, random.normal(size=(n, 2))
    X = Z @ random.normal(size=(2, 8)) + np.outer(batch, random.normal(0, 3, 8)) + random.normal(0, 0.5, (n, 8))
    labels = np.where(batch, "new", "old")
    options = {"max_epochs": 60, "batch_size": 64, "hidden_layer_sizes": (64,)}
    if kind != "dgd":
        options["encoder_hidden_layer_sizes"] = (64,)
    latents = quick(kind, **options).fit_transform(X, covariates=labels)

    def explained(values, by):
        by = np.column_stack([by, np.ones(n)])
        rest = values - by @ np.linalg.lstsq(by, values, rcond=None)[0]
        return 1 - rest.var(0).sum() / values.var(0).sum()

    assert explained(latents, batch) < 0.1
    assert explained(Z, latents) > 0.8


@pytest.mark.parametrize("kind", CLASSES)
def test_fits_start_from_linear_effects(kind):
    """Counts of one batch are twice those of the others."""
    options = {"likelihood": "poisson", "size_factors": None, "max_epochs": 1, "learning_rate": 1e-4}
    model = quick(kind, **options).fit(counts(), covariates=covariates()["batch"])
    one, other = (model.inverse_transform(np.zeros((1, 2)), covariates={"batch": batch}) for batch in "ba")
    means = [counts()[covariates()["batch"] == batch].mean(0) for batch in "ba"]
    assert_allclose(one / other, [means[0] / means[1]], rtol=0.1)


@pytest.mark.parametrize("how", ["kmeans", "data", "random"])
def test_pseudo_inputs_carry_covariates(how):
    model = quick("vamp", likelihood="nb", pseudo_input_init=how, n_pseudo_inputs=6)
    model.fit(counts(), covariates=covariates())
    assert model.pseudo_inputs_.shape == (6, D)
    assert np.isfinite(model.score(counts(), covariates=covariates()))


def test_a_decoder_of_ones_own_gets_additive_effects():
    decoder = nn.Linear(2, D)
    model = quick("dgd", decoder=decoder, max_epochs=30).fit(measurements(), covariates=covariates())
    z = np.random.default_rng(0).normal(size=(5, 2))
    effect = model.inverse_transform(z, covariates={"batch": "b"}) - model.inverse_transform(
        z, covariates={"batch": "a"}
    )
    assert_allclose(effect, effect[:1].repeat(5, 0), atol=1e-9)
    assert np.abs(effect).max() > 0.1
