"""A fit that has not found the order of rows along a path begins there once more, and the better one is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae._base import fitting
from skdevae._base.starts import Start, has_order_of, starts_from
from skdevae.datasets import make_progression
from skdevae.training import exact
from skdevae.training.settings import FitSettings, TrainingDefaults

ESTIMATORS = [BasisDeVAEClusterer, DeVAETransformer]


def _table():
    return make_progression(100, n_transient=6, n_increasing=3, n_decreasing=3, random_state=0).data


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_fit_begins_again_where_it_has_not_found_the_order_of_the_path(monkeypatch, estimator, found):
    fits, settled = [], []

    def recorded(*arguments):
        fits.append(exact.fit_exact(*arguments))
        return fits[-1]

    def recorded_settling(*arguments):
        settled.append(len(fits))
        exact.settle_(*arguments)

    monkeypatch.setattr(fitting, "fit_exact", recorded)
    monkeypatch.setattr(fitting, "settle_", recorded_settling)
    monkeypatch.setattr(fitting, "has_order_of", lambda *_: found)
    model = estimator(max_epochs=20, random_state=0).fit(_table())
    assert len(fits) == (1 if found else 2)
    assert settled == ([] if found else [1])
    assert model.history_ is max(fits, key=lambda fit: fit.lower_bound).history


@pytest.mark.parametrize(
    "estimator",
    [
        BasisDeVAEClusterer(inference="amortized", max_epochs=1),
        DeVAETransformer(2, max_epochs=1),
        DeVAETransformer(inference="amortized", max_epochs=1),
    ],
)
def test_only_one_axis_on_a_grid_has_a_path(monkeypatch, estimator):
    monkeypatch.setattr(fitting, "has_order_of", lambda *_: pytest.fail("was asked for the order of a path"))
    estimator.set_params(random_state=0).fit(_table())


def test_the_first_start_of_several_has_a_path():
    scores = np.random.default_rng(0).normal(size=(100, 3)) * [3, 1, 1]
    starts = list(starts_from(scores, 1, [5, 6, 7], None, with_path=True))
    assert [start.seed for start in starts] == [5, 6, 7]
    assert [start.path is None for start in starts] == [False, True, True]
    path = starts[0].path
    assert path.seed == 5
    assert path.follows_path
    assert path.path is None


def test_orders_are_the_same_up_to_their_direction_and_to_small_changes():
    table = _table()
    model = BasisDeVAEClusterer(max_epochs=20, random_state=0).fit(table)
    module, source = model._inference().model, model._read(table).source(torch.zeros((), dtype=torch.float64))
    positions = model.transform(table)
    random = np.random.default_rng(0)
    assert has_order_of(module, source, positions)
    assert has_order_of(module, source, -positions)
    assert has_order_of(module, source, positions + 0.1 * random.normal(size=positions.shape))
    assert not has_order_of(module, source, np.abs(positions))
    assert not has_order_of(module, source, random.permutation(positions))


@pytest.mark.parametrize("weight, same", [(1.0, False), (1e-6, True)])
def test_rows_have_a_say_in_orders_by_their_weight(weight, same):
    table = _table()
    model = BasisDeVAEClusterer(max_epochs=20, random_state=0).fit(table)
    source = model._read(table).source(torch.zeros((), dtype=torch.float64))
    positions = model.transform(table)
    positions[:30] = np.random.default_rng(0).permutation(positions[:30])
    weights = np.where(np.arange(len(table)) < 30, weight, 1.0)
    weighted = replace(source, context=replace(source.context, weight=weights))
    assert has_order_of(model._inference().model, weighted, positions) == same


def test_settled_curves_follow_the_first_guesses_more_closely():
    """The loss of rows that stay where they are falls, and what the rows' places are stays."""
    table = _table()
    losses = {}
    for settles in (False, True):
        model = DeVAETransformer(max_epochs=1, random_state=0).fit(table).set_params(max_epochs=100)
        source = model._read(table).source(torch.zeros((), dtype=torch.float64))
        module = fitting.build_model(model._config_, torch.Generator().manual_seed(0)).to(source.like)
        positions = fitting.principal_components(source, False, 1)[:, :1]
        start = Start(0, positions / positions.std(), follows_path=settles)
        summary = fitting.summarize_columns(source, False)
        [(started, _)] = model._modules_started(module, source, summary, start)
        grid = fitting.grid_of(source, model._settings())
        with torch.no_grad():
            sums = model._starting_sums(started, source, torch.from_numpy(start.positions), grid.points)
            losses[settles] = float(started(sums, summary, grid).total)
    assert losses[True] < losses[False] - 1


def test_runs_along_a_path_take_smaller_steps_unless_a_rate_is_given():
    source = BasisDeVAEClusterer(max_epochs=1, random_state=0).fit(_table())._read(_table()).source(torch.zeros(()))
    defaults = TrainingDefaults(exact_learning_rate=0.1, path_learning_rate=0.05)
    for given, rates in ((None, [0.1, 0.05]), (0.3, [0.3, 0.3])):
        settings = FitSettings.of(BasisDeVAEClusterer(learning_rate=given))
        grid = exact.grid_of(source, settings)
        options = [exact.exact_options(source, grid, settings, defaults, along) for along in (False, True)]
        assert [option.learning_rate for option in options] == rates
