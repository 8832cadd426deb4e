"""Columns of counts with hardly any events: their rates do not depend on how long a fit takes."""

import numpy as np
import pytest

from skdevae import BasisDeVAEClusterer, VAETransformer
from skdevae.training.seeds import spawn_seeds

N, N_RARE = 60, 15


@pytest.fixture(scope="module")
def counts():
    """Six columns that follow an axis, and columns with one event each, in rows of their own."""
    rng = np.random.default_rng(0)
    table = rng.poisson(np.exp(1 + np.outer(np.tanh(rng.normal(size=N)), rng.normal(size=6))))
    rare = np.zeros((N, N_RARE))
    rare[rng.choice(N, N_RARE, replace=False), np.arange(N_RARE)] = 1
    return np.hstack([table, rare])


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    "model",
    [BasisDeVAEClusterer(max_epochs=40), VAETransformer(n_components=1, max_epochs=60)],
    ids=lambda model: type(model).__name__,
)
def test_a_column_whose_event_is_held_out_keeps_a_rate(model, counts):
    """Early stopping holds out a third of the rows, so some columns have no event in the others."""
    model.set_params(
        likelihood="poisson", early_stopping=True, validation_fraction=0.33, n_iter_no_change=1000, random_state=0
    )
    model.fit(counts)
    rare = model.trajectories(model.transform(counts)).mean(0)[6:]
    # half an event in the rows that were fitted is what Jeffreys' prior expects; one event gives twice as much
    np.testing.assert_array_less(0.4 / N, rare)
    np.testing.assert_array_less(rare, 3 / N)


def test_outliers_may_take_all_rows_that_were_held_out():
    """One row is held out, and it is an outlier: another one is held out then."""
    model = VAETransformer(n_components=1, early_stopping=True, validation_fraction=0.01, max_epochs=2, random_state=0)
    held_out = model._held_out(np.ones(N), spawn_seeds(0, 2)[0])
    assert held_out.sum() == 1
    table = np.random.default_rng(0).normal(size=(N, 6))
    table[held_out] = 1e6
    with pytest.warns(UserWarning, match=f"row {np.argmax(held_out)}"):
        model.fit(table)
    assert "valid_loss" in model.history_[-1]
