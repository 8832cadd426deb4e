"""Facts about rows belong to them by their place, and labels that contradict it are refused."""

import numpy as np
import pandas as pd
import pytest

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression
from skdevae.inspection import association_test, feature_table
from skdevae.table.row_labels import check_row_labels

N = 60
X = pd.DataFrame(make_progression(N, random_state=0).data, index=[f"P{number}" for number in range(N)])
FACT = pd.Series(np.arange(N) % 7 + 1.0, X.index)


@pytest.mark.parametrize("fact", ["sample_weight", "covariates", "orientation", "axis"])
def test_a_fit_refuses_labels_in_another_order(fact):
    model = BasisDeVAEClusterer(max_epochs=1, random_state=0)
    shuffled = FACT.sample(frac=1, random_state=0)
    with pytest.raises(ValueError, match=rf"^{fact} has the row labels of X in another order.*{fact}\.loc"):
        model.fit(X, **{fact: shuffled})
    model.fit(X, **{fact: shuffled.loc[X.index]})
    assert model.n_iter_ == 1


def test_answers_refuse_labels_in_another_order():
    model = BasisDeVAEClusterer(max_epochs=1, random_state=0).fit(X, covariates=FACT)
    shuffled = FACT.sample(frac=1, random_state=0)
    for answer in (model.transform, model.score, model.posterior, model.partial_fit):
        with pytest.raises(ValueError, match=r"^covariates has the row labels of X in another order"):
            answer(X, covariates=shuffled)


def test_inspection_refuses_labels_in_another_order():
    position = FACT + np.linspace(0, 0.5, N)
    model = BasisDeVAEClusterer(max_epochs=1, random_state=0).fit(X, axis=position)
    for ask in (feature_table, association_test):
        with pytest.raises(ValueError, match=r"^axis has the row labels of X in another order"):
            ask(model, X, axis=position.sample(frac=1, random_state=0))


@pytest.mark.parametrize(
    "fact",
    [
        FACT.to_numpy(),
        list(FACT),
        None,
        FACT.reset_index(drop=True),  # other labels, as where one table has lost its own
        FACT[:-1],  # of another length, which others complain of
        FACT.sample(frac=1, random_state=0).to_numpy(),
    ],
)
def test_what_has_no_labels_of_the_table_belongs_by_its_place(fact):
    check_row_labels(X, fact=fact)
    check_row_labels(X.to_numpy(), fact=fact)


def test_labels_are_shown_as_they_are():
    numbered = FACT.reset_index(drop=True)
    with pytest.raises(ValueError, match=r"row 0 is 0 in X and 59 in fact\. Pass fact\.loc"):
        check_row_labels(X.reset_index(drop=True), fact=numbered[::-1])


def test_labels_that_come_twice_say_nothing():
    check_row_labels(X.set_axis(["a"] * N), fact=FACT.set_axis(["a"] * N))
    check_row_labels(X.set_axis(["a", "b"] * (N // 2)), fact=FACT.set_axis(["b", "a"] * (N // 2)))
