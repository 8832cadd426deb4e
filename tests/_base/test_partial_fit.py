"""partial_fit: one table after another, as good as all of them at once, and whole or not there at all."""

import pickle
import signal
import warnings
from functools import cache

import numpy as np
import pytest
import skops.io
from agreement import assert_agree
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from skorch.callbacks import Callback
from test_persistence import OURS

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae._base import partial_fit
from skdevae.datasets import make_progression

_QUICK = {"max_epochs": 3, "n_grid_points": 17, "n_knots": 9, "hidden_layer_sizes": (4,), "random_state": 0}
MODELS = {
    "BasisDeVAE, nb with sizes": (BasisDeVAEClusterer, {"likelihood": "nb", "size_factors": "sum"}),
    "BasisVAE": (BasisVAEClusterer, {"n_clusters": 3}),
    "DeVAE": (DeVAETransformer, {}),
    "DeVAE, two components": (DeVAETransformer, {"n_components": 2, "n_grid_points": 9}),
}
every_model = pytest.mark.parametrize("name", MODELS)
pytestmark = pytest.mark.filterwarnings("ignore:No axis was found")


@pytest.fixture(autouse=True)
def few_steps(request, monkeypatch):
    """What is tested here holds after any number of gradient steps, except where it is how good a model is."""
    if "worth" not in request.node.name:
        monkeypatch.setattr(partial_fit, "N_STEPS", 5)


def model_of(name, **more):
    estimator, parameters = MODELS[name]
    return estimator(**{**_QUICK, **parameters, **more})


@cache
def progression(noise=0.2):
    return make_progression(160, n_transient=3, n_increasing=2, n_decreasing=2, n_flat=1, noise=noise, random_state=0)


def table_of(name):
    data = progression().data
    return np.random.default_rng(0).poisson(np.exp(1 + data)).astype(float) if "nb" in name else data


@cache
def streamed(name):
    """A model that has seen two tables of 60 samples."""
    X = table_of(name)
    return model_of(name).partial_fit(X[:60]).partial_fit(X[60:120])


def answers(model, X):
    return np.append(model.score_samples(X), model.transform(X))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["BasisDeVAE, nb with sizes", "DeVAE"])
def test_a_fitted_model_goes_on_from_the_table_of_its_fit(name):
    """As if it had begun with partial_fit, whose first call is a fit."""
    X = table_of(name)
    fitted = model_of(name).fit(X[:60])
    before = answers(fitted, X[:60])
    assert_array_equal(answers(fitted.partial_fit(X[:60]), X[:60]), before)
    assert fitted.n_samples_seen_ == 60
    assert_array_equal(fitted.partial_fit(X[60:120]).transform(X), streamed(name).transform(X))


@pytest.mark.slow(keep=2)
@every_model
def test_later_tables_teach_the_model_more(name):
    X = table_of(name)
    first, later = model_of(name).partial_fit(X[:60]), streamed(name)
    assert later.n_samples_seen_ == 120
    assert later.n_iter_ == len(later.history_) == first.n_iter_ + 1
    assert later.score(X[120:]) > first.score(X[120:])


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("name", ["BasisDeVAE, nb with sizes", "BasisVAE"])
def test_a_pass_in_chunks_is_a_pass_over_the_whole(name):
    """Whatever the chunks and their order."""
    X = table_of(name)
    start = pickle.dumps(model_of(name).partial_fit(X[:40]))
    whole = pickle.loads(start).partial_fit(X, pass_ends=True)
    order = np.random.default_rng(0).permutation(len(X))
    parts = pickle.loads(start)
    for rows in np.split(order, [1, 50]):
        parts.partial_fit(X[rows], pass_ends=len(rows) == len(X) - 50)
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == 40 + len(X)
    assert_agree(answers(parts, X), answers(whole, X), computed_in=np.float32)
    assert parts.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-5)


def test_while_a_pass_goes_on_curves_stay():
    X = table_of("DeVAE")
    model = model_of("DeVAE").partial_fit(X[:40], pass_ends=False)
    before = answers(model, X)
    assert_array_equal(answers(model.partial_fit(X[40:80], pass_ends=False), X), before)
    with pytest.raises(ValueError, match="pass_ends=True"):
        model.partial_fit(X[80:])
    assert model.n_samples_seen_ == 80
    model.partial_fit(X[80:], pass_ends=True)
    assert model.score(X) > before[: len(X)].mean()
    model.partial_fit(X[80:])  # and goes on


def worth_of_a_stream(seed):
    """What a stream and a fit of all its tables add to the held-out score of the first table, and how labels agree."""
    data = make_progression(300, n_transient=2, n_increasing=2, n_decreasing=2, noise=0.4, random_state=seed).data
    X, new = data[:180], data[180:]
    estimator = BasisDeVAEClusterer(
        3, n_grid_points=25, n_knots=13, hidden_layer_sizes=(8,), max_epochs=30, random_state=0
    )
    whole, stream = clone(estimator).fit(X), clone(estimator).partial_fit(X[:60])
    first = stream.score(new)
    for chunk in X[60:].reshape(2, 60, -1):
        stream.partial_fit(chunk)
    return stream.score(new) - first, whole.score(new) - first, adjusted_rand_score(whole.labels_, stream.labels_)


@pytest.mark.usefixtures("one_run_a_start")
def test_a_stream_is_worth_nearly_as_much_as_its_tables_at_once():
    """Of what more samples add to a held-out score, nine tenths; and the labels of nearly all features."""
    gained, possible, agreement = worth_of_a_stream(seed=5)
    assert possible - gained < 0.1 * possible
    assert agreement > 0.7


@pytest.mark.slow
@pytest.mark.usefixtures("one_run_a_start")
def test_a_stream_of_other_tables_is_worth_four_fifths():
    gained, possible, agreements = zip(*(worth_of_a_stream(seed) for seed in (5, 6, 7)), strict=True)
    assert sum(gained) > 0.8 * sum(possible)
    assert min(agreements) > 0.7


@pytest.mark.parametrize(
    ("name", "round_trip"),
    [
        ("BasisVAE", lambda model: pickle.loads(pickle.dumps(model))),
        ("BasisDeVAE, nb with sizes", lambda model: skops.io.loads(skops.io.dumps(model), trusted=sorted(OURS))),
    ],
    ids=["pickle", "skops"],
)
def test_a_saved_model_goes_on(name, round_trip):
    X = table_of(name)
    back = round_trip(streamed(name)).partial_fit(X[120:])
    expected = pickle.loads(pickle.dumps(streamed(name))).partial_fit(X[120:])
    assert_array_equal(back.transform(X), expected.transform(X))


def test_fit_starts_afresh_and_clones_know_nothing():
    name = "DeVAE"
    X = table_of(name)[:60]
    model, fresh = pickle.loads(pickle.dumps(streamed(name))).fit(X), model_of(name).fit(X)
    assert vars(model).keys() == vars(fresh).keys()
    assert_array_equal(answers(model, X), answers(fresh, X))
    assert not [attribute for attribute in vars(clone(streamed(name))) if attribute.endswith("_")]


class Fault(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("a fault in a user's callback")


class CtrlC(Callback):
    def on_batch_begin(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


def unchanged(model, call):
    before = dict(vars(model))
    call()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert vars(model).keys() == before.keys()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_call_that_fails_or_is_interrupted_has_not_happened(error, is_first):
    model = model_of("DeVAE") if is_first else pickle.loads(pickle.dumps(streamed("DeVAE")))
    model.callbacks = [Fault() if error is RuntimeError else CtrlC()]

    def call():
        with pytest.raises(error):
            model.partial_fit(table_of("DeVAE")[120:])

    unchanged(model, call)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (np.zeros((3, 5)), "expecting 8 features"),
        (np.full((3, 8), np.nan), "row 0"),
        (np.full((3, 8), np.inf), "infin"),
        (np.zeros((0, 8)), "minimum of 1"),
    ],
)
def test_tables_that_do_not_suit_are_refused(table, match):
    model = streamed("DeVAE")

    def call():
        with pytest.raises(ValueError, match=match):
            model.partial_fit(table)

    unchanged(model, call)


def test_one_sample_is_a_table_and_repeated_samples_are_weights():
    X = table_of("DeVAE")
    start = pickle.dumps(streamed("DeVAE"))
    once, twice = (pickle.loads(start) for _ in range(2))
    once.partial_fit(X[[120, 121]], sample_weight=[2, 0])
    twice.partial_fit(X[[120, 120]])
    assert_agree(answers(once, X), answers(twice, X), computed_in=np.float32)
    assert pickle.loads(start).partial_fit(X[[120]]).n_samples_seen_ == 121


def test_sizes_that_came_with_the_first_table_come_with_all():
    X = table_of("nb")
    sizes = X.sum(1)
    model = model_of("DeVAE", likelihood="nb").partial_fit(X[:60], size_factors=sizes[:60])
    model.partial_fit(X[60:120], size_factors=sizes[60:120])
    rule = model_of("DeVAE", likelihood="nb", size_factors="sum").partial_fit(X[:60]).partial_fit(X[60:120])
    assert_agree(model.transform(X, size_factors=sizes), rule.transform(X), computed_in=np.float32)
    with pytest.raises(ValueError, match="size_factors"):
        model.partial_fit(X[120:])


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_covariates_come_with_every_table(likelihood):
    """Their effects are those of the whole pass, even if tables are parts of it that differ in their covariates."""
    site = np.random.default_rng(0).integers(0, 3, 160)
    X = table_of("nb" if likelihood == "nb" else "DeVAE") + 2.0 * site[:, None]
    start = model_of("DeVAE", likelihood=likelihood).partial_fit(X[:60], covariates=site[:60].astype(str))
    start = pickle.dumps(start.partial_fit(X[60:100], covariates=site[60:100].astype(str)))
    whole = pickle.loads(start).partial_fit(X, covariates=site.astype(str), pass_ends=True)
    parts = pickle.loads(start)
    for level in range(3):
        rows = site == level
        parts.partial_fit(X[rows], covariates=site[rows].astype(str), pass_ends=level == 2)
    assert_agree(parts.covariate_effects_, whole.covariate_effects_, computed_in=np.float32)
    covariates = {"covariates": site.astype(str)}
    assert_agree(parts.transform(X, **covariates), whole.transform(X, **covariates), computed_in=np.float32)
    with pytest.raises(AttributeError, match="a stream"):
        _ = parts.covariate_standard_errors_
    with pytest.raises(ValueError, match="covariates"):
        parts.partial_fit(X)


@pytest.mark.filterwarnings("error")
def test_no_sample_of_the_stream_lies_beyond_its_range():
    X, model = table_of("DeVAE").copy(), pickle.loads(pickle.dumps(streamed("DeVAE")))
    strange = 3 * X[:5, ::-1]
    with pytest.warns(UserWarning, match="beyond the range"):
        model.transform(strange)
    model.partial_fit(strange).transform(strange)


def test_columns_that_are_constant_at_first_are_left_out():
    X = np.column_stack([table_of("DeVAE"), np.arange(160.0) > 100])
    model = model_of("DeVAE")
    with pytest.warns(UserWarning, match="first table has one value only.* column 8"):
        model.partial_fit(X[:60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X[60:])
    with pytest.warns(UserWarning, match="first table has 19 samples only"):
        model_of("DeVAE").partial_fit(X[:19, :8])
    assert_array_equal(model.inverse_transform([[0.0]])[:, 8], 0)


def test_what_a_stream_cannot_have_is_refused():
    X = table_of("DeVAE")
    fitted = model_of("DeVAE").fit(X[:80])
    for other in (X, X[80:]):
        with pytest.raises(ValueError, match="keeps no sums"):
            fitted.partial_fit(other)
    with pytest.raises(ValueError, match="along a given axis"):
        model_of("DeVAE").fit(X, axis=np.arange(160)).partial_fit(X)
    with pytest.raises(ValueError, match="pass_ends='last'"):
        model_of("DeVAE").partial_fit(X, pass_ends="last")
    with pytest.raises(ValueError, match="early_stopping must be False"):
        model_of("DeVAE", early_stopping=True).partial_fit(X)
    with pytest.raises(ValueError, match="compares no curves"):
        model_of("DeVAE", covariates=[0], interactions="x0").partial_fit(X)


def test_only_models_on_a_grid_have_it():
    assert hasattr(DeVAETransformer(), "partial_fit")
    for other in (
        DeVAETransformer(inference="amortized"),
        DeVAETransformer(3),
        BasisDeVAEClusterer(inference="amortized"),
        BasisVAEClusterer(inference="amortized"),
        VAETransformer(),
        VampVAE(),
        DGDEmbedder(),
    ):
        assert not hasattr(other, "partial_fit")
