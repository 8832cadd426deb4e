"""Heats: every model runs as it would alone, and the start that wins has the best bound."""

import numpy as np
import pytest
import torch
from agreement import assert_agree

from skdevae import BasisDeVAEClusterer, DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.nn.latent_grid import LatentGrid
from skdevae.nn.models import build_model
from skdevae.nn.stacked import StackedModels
from skdevae.table.column_summary import summarize_columns
from skdevae.training.batches import expected_statistics
from skdevae.training.exact import exact_options
from skdevae.training.heats import _Heat, worth_fitting
from skdevae.training.seeds import generator_from
from skdevae.training.settings import FitSettings, TrainingDefaults

N, R = 40, 4


def _settings(modules):
    return FitSettings(max_epochs=8, n_components=modules[0].n_components)


def _table(kind):
    values = make_progression(N, n_transient=3, n_increasing=3, n_decreasing=2, random_state=0).data
    random = np.random.default_rng(0)
    if kind in ("poisson", "nb", "zinb"):
        return random.poisson(np.exp(2 + values)).astype(float)
    if kind == "bernoulli":
        return (values > np.median(values, 0)).astype(float)
    if kind == "missing":
        return np.where(random.random(values.shape) < 0.2, np.nan, values)
    return values


CASES = {
    "gaussian": (BasisDeVAEClusterer, {}),
    "missing": (BasisDeVAEClusterer, {"leveling_off": "turn"}),
    "bernoulli": (BasisDeVAEClusterer, {"likelihood": "bernoulli", "assignment": "noncollapsed"}),
    "zinb": (BasisDeVAEClusterer, {"likelihood": "zinb"}),
    "nb, sizes": (BasisDeVAEClusterer, {"likelihood": "nb", "size_factors": "sum"}),
    "gaussian, two axes": (DeVAETransformer, {"n_components": 2}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Started models in double precision, the rows that they are fitted to, and a summary of the columns."""
    estimator, options = CASES[request.param]
    X = _table(request.param.split(",")[0])
    model = estimator(max_epochs=1, random_state=0, **options).fit(X)
    source = model._for_inference(X).source
    modules, summary = [], summarize_columns(source, model.module_.likelihood.counts)
    for start in model._starts(source, None, list(range(R))):
        module = build_model(model._config_, generator_from(start.seed)).double()
        [(started, _)] = model._modules_started(module, source, summary, start)
        modules.append(started)
    return modules, source, summary


@pytest.mark.slow(keep=2)
def test_bounds_are_those_of_each_model_alone(case):
    modules, source, summary = case
    grid = LatentGrid.standard_normal(11, 4.5, modules[0].n_components)
    found = _Heat(modules, source, summary, grid).bounds()
    with torch.no_grad():
        expected = [-module(expected_statistics(module, source, grid), summary, grid).total for module in modules]
    assert_agree(found, torch.stack(expected))


def test_models_know_nothing_of_each_other(case):
    modules, source, summary = case
    grid = LatentGrid.standard_normal(11, 4.5, modules[0].n_components)
    options = exact_options(source, grid, _settings(modules), TrainingDefaults())
    together = _Heat(modules, source, summary, grid)
    some = together.take(torch.tensor([2, 0]))
    before = together.bounds()
    hottest = torch.arange(1.0, 1 + R, dtype=torch.float64)
    together.run(3, options, hottest)
    some.run(3, options, hottest[[2, 0]])
    assert (together.bounds() != before).all()
    np.testing.assert_allclose(some.bounds(), together.bounds()[[2, 0]], rtol=1e-6)


def test_the_first_and_the_winner_are_fitted_and_models_stay_as_they_are(case):
    modules, source, summary = case
    before = [[value.clone() for value in module.parameters()] for module in modules]
    numbers = worth_fitting(modules, source, summary, _settings(modules), TrainingDefaults())
    for module, values in zip(modules, before, strict=True):
        assert all(torch.equal(*pair) for pair in zip(module.parameters(), values, strict=True))
    assert numbers[0] == 0
    assert len(numbers) <= 2
    # the same start wins wherever it stands, but for the first, which is always among them
    order = [0, 3, 2, 1]
    shuffled = [modules[i] for i in order]
    again = worth_fitting(shuffled, source, summary, _settings(modules), TrainingDefaults())
    assert sorted(order[i] for i in again) == numbers


def test_a_start_that_has_lost_its_numbers_does_not_win(case):
    modules, source, summary = case
    form = StackedModels(modules[1])
    broken = form.model(torch.full_like(form.start, torch.nan))
    numbers = worth_fitting([modules[0], broken], source, summary, _settings(modules), TrainingDefaults())
    assert numbers == [0]


def test_the_best_fit_is_one_of_those_of_single_starts():
    """Heats only choose: the start that is kept is fitted as it would be alone, to the bit."""
    X = _table("gaussian")
    model = DeVAETransformer(max_epochs=20, n_init=5, random_state=0).fit(X)
    singles = []

    class EveryStart(DeVAETransformer):
        _starts_once = False  # no heats: all starts are fitted

        def _fit_starts(self, *arguments):
            fits = super()._fit_starts(*arguments)
            singles.extend(fit.lower_bound for fit in fits)
            return fits

    every = EveryStart(max_epochs=20, n_init=5, random_state=0).fit(X)
    assert len(singles) == 5
    offset = every.lower_bound_ - max(singles)
    assert min(abs(model.lower_bound_ - offset - bound) for bound in singles) < 1e-9
    assert model.lower_bound_ - offset >= singles[0]


def test_restarts_beside_covariates_are_all_fitted(monkeypatch):
    starts = []
    one_fit = DeVAETransformer._fit_module
    monkeypatch.setattr(
        DeVAETransformer, "_fit_module", lambda self, *arguments: starts.append(0) or one_fit(self, *arguments)
    )
    DeVAETransformer(max_epochs=2, n_init=3, random_state=0).fit(_table("gaussian"), covariates=np.arange(N) % 2)
    assert len(starts) == 3
