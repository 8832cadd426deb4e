"""Summaries of fitted models, and what estimators look like in a console."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_progression

X = make_progression(60, n_transient=2, n_increasing=3, n_decreasing=2, random_state=0).data
_QUICK = {"max_epochs": 2, "random_state": 0}
ESTIMATORS = {
    "BasisDeVAE": BasisDeVAEClusterer(**_QUICK),
    "BasisVAE": BasisVAEClusterer(2, **_QUICK),
    "DeVAE": DeVAETransformer(monotonic_cst=[1, 1, 0, 0, 0, -1, 0], **_QUICK),
    "VAE": VAETransformer(1, **_QUICK),
    "VampVAE": VampVAE(1, n_pseudo_inputs=4, **_QUICK),
    "DGD": DGDEmbedder(1, n_clusters=2, n_init=1, **_QUICK),
}


def line(text, name):
    """What stands behind the name of a fact."""
    return re.search(rf"^{name} +(.*)$", text, re.MULTILINE)[1]


def column(text, header):
    """The whole numbers of a column of the table of clusters."""
    lines = text.splitlines()
    (first,) = [number for number, content in enumerate(lines) if content.startswith("Cluster")]
    end = lines[first].index(header) + len(header)
    rows = lines[first + 1 : next(n for n in range(first, len(lines)) if lines[n].startswith("---"))]
    return [int(row[:end].split()[-1]) for row in rows]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_has_one(name):
    model = ESTIMATORS[name]
    with pytest.raises(NotFittedError):
        type(model)().summary()
    text = model.fit(X).summary()
    assert text.startswith(type(model).__name__)
    assert repr(text) == str(text)
    assert max(map(len, text.splitlines())) <= 88
    assert line(text, "Samples") == "60"
    assert line(text, "Columns") == "7, all modelled"
    assert line(text, "Likelihood") == "gaussian"
    assert line(text, "Epochs").startswith("2, the loss still moved")
    assert line(text, "Warnings") == "none"
    score = getattr(model, "lower_bound_", None) or model.log_posterior_
    assert f"{score:.4f} nats per training sample" in text


@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_is_the_same_after_loading(name):
    model = ESTIMATORS[name].fit(X)
    assert pickle.loads(pickle.dumps(model)).summary() == model.summary()
    older = pickle.loads(pickle.dumps(model))
    del older._report_
    assert line(older.summary(), "Samples") == "of total weight 60"
    assert "older version" in line(older.summary(), "Warnings")


@pytest.mark.parametrize("name", ["BasisDeVAE", "BasisVAE"])
def test_every_column_is_in_one_cluster(name):
    model = ESTIMATORS[name].fit(X)
    counts, sure = (column(model.summary(), header) for header in ("columns", "sure (80%)"))
    assert sum(counts) == 7
    assert counts == [(model.labels_ == k).sum() for k in range(len(model.cluster_names_))]
    assert sum(sure) == (model.responsibilities_.max(1) >= 0.8).sum()


@pytest.mark.parametrize("name", ["VampVAE", "DGD"])
def test_every_sample_is_in_one_cluster(name):
    assert sum(column(ESTIMATORS[name].fit(X).summary(), "samples")) == 60


def test_directions_are_counted():
    assert (
        line(ESTIMATORS["DeVAE"].fit(X).summary(), "Along the axis")
        == "2 columns rising, 1 column falling, 4 columns free"
    )


def test_the_table_is_described():
    table = pd.DataFrame(X, columns=list("abcdefg")).assign(one=1.0, site=np.resize(["n", "s", "e"], 60))
    table.iloc[:6, :2] = np.nan
    weight = np.full(60, 0.5)
    weight[-1] = 0
    model = BasisDeVAEClusterer(covariates=["site"], **_QUICK).fit(table, sample_weight=weight)
    text = model.summary()
    assert line(text, "Samples") == "59, of total weight 29.5"
    assert "9, 1 of them covariates, 1 left out, of one value or none (column 'one')" in " ".join(text.split())
    assert line(text, "Missing entries") == f"{12 / (59 * 7):.2%}"
    assert line(text, "Covariates") == "site (3 levels)"


def test_counts_have_sizes():
    counts = np.random.default_rng(0).poisson(5.0, (40, 4))
    text = VAETransformer(1, likelihood="nb", size_factors="sum", **_QUICK).fit(counts).summary()
    assert line(text, "Size factors").startswith("total counts of the rows, sd of their logs 0.")
    given = VAETransformer(1, likelihood="nb", **_QUICK).fit(counts, size_factors=np.ones(40)).summary()
    assert line(given, "Size factors") == "given with the rows, sd of their logs 0"


def test_warnings_of_the_fit_are_kept_until_the_next_one():
    table = X.copy()
    table[3] *= 1e6
    model = DeVAETransformer(**_QUICK)
    with pytest.warns(UserWarning, match="Training does without 1 row") as caught:
        model.fit(table)
    as_one_line = " ".join(model.summary().split())
    for warning in caught:
        assert " ".join(str(warning.message).split()) in as_one_line
    assert line(model.summary(), "Samples") == "60, 1 of them set aside as outliers"
    assert line(model.fit(X).summary(), "Warnings") == "none"


def test_warnings_of_a_stream_add_up():
    model = BasisDeVAEClusterer(**_QUICK)
    with pytest.warns(UserWarning, match="first table has 15 samples"):
        model.partial_fit(X[:15])
    model.partial_fit(X[15:])
    assert model.summary().count("The first table has 15 samples") == 1
    assert "60 samples were read" in model.summary()


def test_an_end_of_training_is_told_from_one_that_came_too_early():
    settled = DeVAETransformer(max_epochs=300, tol=0.5, n_iter_no_change=3, random_state=0).fit(X)
    assert settled.n_iter_ < 300
    assert line(settled.summary(), "Epochs") == f"{settled.n_iter_}, the loss had settled"
    stopped = VAETransformer(1, max_epochs=300, early_stopping=True, n_iter_no_change=2, random_state=0).fit(X)
    assert line(stopped.summary(), "Epochs") == f"{stopped.n_iter_}, the loss had settled"
    assert "of them held out to stop the training" in line(stopped.summary(), "Samples")
    rising = VAETransformer(1, max_epochs=4, early_stopping=True, n_iter_no_change=20, random_state=0).fit(X)
    assert "held-out loss was still falling" in rising.summary()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_in_a_console_an_estimator_is_its_changed_parameters_in_brief(name):
    kind = type(ESTIMATORS[name])
    assert repr(kind()) == f"{kind.__name__}()"
    assert repr(kind(n_init=3)) == f"{kind.__name__}(n_init=3)"
    names = [f"feature {number}" for number in range(5000)]
    for many in (names, tuple(names), np.array(names), np.arange(5000.0), dict.fromkeys(names, "numeric")):
        text = repr(kind(covariates=many))
        assert len("".join(text.split())) <= 800
        assert text.startswith(f"{kind.__name__}(covariates=")
