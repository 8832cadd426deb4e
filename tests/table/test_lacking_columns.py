"""A later table with other columns than the training table: what the error says, and that it holds."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from agreement import assert_agree
from scipy.integrate import trapezoid

from skdevae import BasisDeVAEClusterer, VAETransformer, VampVAE
from skdevae.datasets import make_progression

FRAME = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=1, as_frame=True, random_state=0).data
FRAME.columns = list("abcde")
SITES = np.resize(["north", "south"], 60)
QUICK = {"max_epochs": 3, "random_state": 0}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(n_clusters=3, **QUICK),
    "VAE": VAETransformer(1, **QUICK),
    "VampVAE, counts": VampVAE(1, n_clusters=2, n_pseudo_inputs=4, likelihood="poisson", **QUICK),
}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.* beyond the range")


def fitted(name):
    return ESTIMATORS[name].fit(table_of(name))


def table_of(name):
    return FRAME if "counts" not in name else (FRAME - FRAME.min()).mul(10).round()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_line_of_the_error_works(name):
    model, lacking = fitted(name), table_of(name).drop(columns=["b"])[:10]
    with pytest.raises(ValueError, match=r"feature names should match.*\n.*\n- b\n") as caught:
        model.transform(lacking)
    assert "X lacks 'b' of 5 columns" in str(caught.value)
    line = re.search(r"pass (X\.reindex\(.*?\)):", str(caught.value))[1]
    completed = eval(line, {"X": lacking, "model": model})
    as_missing = table_of(name)[:10].assign(b=np.nan)
    assert model.transform(completed).shape == (10, 1)
    assert_agree(model.transform(completed), model.transform(as_missing))
    assert_agree(model.score_samples(completed), model.score_samples(as_missing))


def test_the_likelihood_of_rows_without_a_column_is_that_of_the_other_columns():
    """p(x without b) is the integral of p(x) over b."""
    model = ESTIMATORS["BasisDeVAE"].fit(FRAME)
    b = np.linspace(-15, 15, 3001)
    for row in (0, 7):
        whole = FRAME.iloc[[row] * len(b)].assign(b=b)
        expected = np.log(trapezoid(np.exp(model.score_samples(whole)), b))
        found = model.score_samples(FRAME.iloc[[row]].drop(columns=["b"]).reindex(columns=model.feature_names_in_))
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("method", ["posterior", "score_samples", "elbo", "adjust", "predict_features", "partial_fit"])
def test_all_methods_that_take_rows_say_it(method):
    model = BasisDeVAEClusterer(n_clusters=2, **QUICK)
    model = model.partial_fit(FRAME) if method == "partial_fit" else model.fit(FRAME)
    with pytest.raises(ValueError, match=r"X\.reindex\(columns=model\.feature_names_in_\)"):
        getattr(model, method)(FRAME.drop(columns=["a", "e"]))


def test_columns_too_many_and_in_another_order():
    model = fitted("BasisDeVAE")
    with pytest.raises(ValueError, match=r"not fitted to 'f': leave out .* X\[model.feature_names_in_\]"):
        model.transform(FRAME.assign(f=0.0))
    with pytest.raises(ValueError, match=r"same order.*\n?.*X\[model.feature_names_in_\]"):
        model.transform(FRAME.iloc[:, ::-1])
    assert_agree(model.transform(FRAME.iloc[:, ::-1][model.feature_names_in_]), model.transform(FRAME))
    renamed = FRAME.rename(columns={"b": "B"})
    with pytest.raises(ValueError, match=r"lacks 'b'.*under other names, rename.*not fitted to 'B'"):
        model.transform(renamed)


def test_a_frame_of_another_library_has_no_reindex():
    with pytest.raises(ValueError, match=r"lacks 'b'.*columns model.feature_names_in_, in this order, and missing"):
        fitted("BasisDeVAE").transform(pl.DataFrame(FRAME.drop(columns=["b"])))


def test_arrays_have_places_for_names():
    model, X = BasisDeVAEClusterer(n_clusters=2, **QUICK).fit(FRAME.to_numpy()), FRAME.to_numpy()
    with pytest.raises(ValueError, match=r"expecting 5 features.*\n?X lacks 2 of 5 columns.*np\.insert") as caught:
        model.transform(X[:, 2:])
    assert "or fit to data frames" in str(caught.value)
    assert_agree(
        model.transform(np.insert(X[:, 1:], 0, np.nan, axis=1)), model.transform(FRAME.assign(a=np.nan).values)
    )
    with pytest.raises(ValueError, match="Leave out the 1 columns"):
        model.transform(np.column_stack([X, X[:, 0]]))


def test_a_covariate_that_lacks_is_another_matter():
    table = FRAME.assign(site=SITES)
    model = BasisDeVAEClusterer(n_clusters=2, covariates=["site"], **QUICK).fit(table)
    with pytest.raises(ValueError, match=r"lacks 'site' of the covariates.*unknown_covariate='average'") as caught:
        model.transform(FRAME)
    assert "reindex" not in str(caught.value)
    completed = FRAME.reindex(columns=model.feature_names_in_)
    with pytest.raises(ValueError, match="site"):
        model.transform(completed)
    model.set_params(unknown_covariate="average")
    assert np.isfinite(model.transform(completed)).all()


def test_errors_about_other_things_are_as_they_were():
    model = fitted("BasisDeVAE")
    with pytest.raises(ValueError, match="column 'a' of X has no number in row 0") as caught:
        model.transform(FRAME.assign(a="x"))
    assert "reindex" not in str(caught.value)
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        model.transform(pd.DataFrame(index=range(3)))
