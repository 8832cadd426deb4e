"""Rows beyond the training range: rare among rows like the training rows, and all of those that are unlike them."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import drawn_table, gaussian_marginal, random_model, random_table, rows_of, source_of

from skdevae.inference import Placement, TrainingRange, inference_for
from skdevae.inference.training_range import _FALSE_ALARMS, lower_limit, warn_of_rows_beyond

KINDS = ["exact", "amortized", "mixture"]
N_DRAWS = 64


def _model(kind="exact", likelihood="gaussian", **options):
    return random_model(kind, likelihood, n_components=1, n_features=8, hidden=(), n_samples=300, **options)


def _range(model, source):
    return TrainingRange.learn(model, source, inference_for(model, N_DRAWS).placed(source))


def _beyond(known, model, source):
    return known.beyond(model, source, inference_for(model, N_DRAWS).placed(source))


# ---- the limit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 50, 400])
def test_of_an_exponential_tail_as_little_is_below_the_limit_as_is_said(n):
    values = -np.random.default_rng(n).exponential(size=(4000, n))
    below = np.exp([lower_limit(sample) for sample in values])  # P(another value < limit)
    k = math.ceil(math.sqrt(n))
    expected = (k + 1) / (n + 1) * _FALSE_ALARMS / k  # the share below the lowest but k, and of these the share beyond
    # Where one of the values themselves lies as far out, once in a hundred times, the limit is that one.
    assert (1 - 2 * _FALSE_ALARMS) * expected - 4 * np.std(below) / math.sqrt(len(below)) < np.mean(below)
    assert np.mean(below) < expected + 4 * np.std(below) / math.sqrt(len(below))


def test_the_limit_goes_along_with_units():
    values = np.random.default_rng(0).normal(size=100)
    for shift, scale in ((0, 7.0), (-20.0, 1.0), (300.0, 0.01)):
        rounding = 1e-6 * abs(shift) + 1e-6 * scale
        assert lower_limit(shift + scale * values) == pytest.approx(shift + scale * lower_limit(values), abs=rounding)


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [-5e8] * 30, [*range(400), -1e6]])
def test_no_value_of_a_sample_is_below_its_limit(values):
    assert lower_limit(np.array(values)) <= min(values)


# ---- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [*product(["exact", "amortized"], ["gaussian", "poisson", "nb", "bernoulli"]), ("mixture", "gaussian")],
)
def test_hardly_any_row_that_a_model_draws_is_beyond_its_range(kind, likelihood):
    model = _model(kind, likelihood)
    known = _range(model, source_of(drawn_table(model, 300, missing=0.1, seed=3)))
    held_out = source_of(drawn_table(model, 1500, missing=0.1, seed=4))
    assert _beyond(known, model, held_out).mean() < 0.002


@pytest.mark.parametrize("kind", KINDS)
def test_rows_unlike_all_others_are_beyond(kind):
    model = _model(kind)
    table = drawn_table(model, 300)
    known = _range(model, source_of(table))
    center, loadings, noise = gaussian_marginal(model)
    strange = np.tile(table[:1], (3, 1))
    strange[0] *= 50
    strange[1, 2] += 30 * np.sqrt(noise[2] + loadings[2] @ loadings[2])  # one column
    strange[2] = center + 40 * loadings[:, 0]  # on the curve, but far out
    np.testing.assert_array_equal(_beyond(known, model, source_of(strange)), np.ones(3, bool))
    assert not _beyond(known, model, source_of(table)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_placed_in_one_way_whatever_is_asked(kind):
    model = _model(kind)
    inference, source = inference_for(model, N_DRAWS), source_of(drawn_table(model, 30, missing=0.1))
    placement = inference.placed(source)
    assert_agree(placement.position, inference.mean(source))
    for result, other in (inference.placed_posterior(source), inference.placed_log_evidence(source)):
        assert len(result) in (4, len(source))
        assert_agree(other.position, placement.position)
        assert_agree(other.log_likelihood, placement.log_likelihood)
    fields, _ = inference.placed_posterior(source, 0.5)
    for field, expected in zip(fields, inference.posterior(source, 0.5), strict=True):
        assert_agree(field, expected)
    assert_agree(inference.placed_log_evidence(source)[0], inference.log_evidence(source))


def test_a_missing_entry_counts_as_much_as_its_column_has_on_average():
    model = _model("exact", "poisson")
    table = random_table("poisson", 20, 8, missing=0.3)
    source, placement = source_of(table), inference_for(model, N_DRAWS).placed(source_of(table))
    known = TrainingRange.learn(model, source, placement)
    rows = rows_of(np.nan_to_num(table))
    entries = torch.stack([model.predictive_entries(rows.values, rows.context, z.expand(20, 1)) for z in placement[0]])
    own = entries[np.arange(20), np.arange(20)].numpy()  # of each row at its latent
    levels = np.nanmean(np.where(np.isnan(table), np.nan, own), 0)
    assert_agree(known.levels, levels)
    expected = placement.log_likelihood.numpy() + np.where(np.isnan(table), levels, 0).sum(1)
    assert_agree(known.described(source, placement.log_likelihood), expected)


def test_rows_without_entries_are_not_beyond():
    model = _model()
    source = source_of(np.full((2, 8), np.nan))
    known = TrainingRange(farthest=0.0, lowest=math.inf)
    assert not _beyond(known, model, source).any()


@pytest.mark.parametrize("kind", ["amortized", "mixture"])
def test_larger_rows_of_the_same_kind_are_not_beyond(kind):
    """The likelihood of a row with more counts is lower, but no lower than the model says."""
    model = _model(kind, "nb")

    def drawn(n, log_mean, seed):
        generator = torch.Generator().manual_seed(seed)
        z, _ = model.latent_prior().draw(n, generator)
        log_size = log_mean + 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
        context = source_of(np.empty((n, 0)), log_size=log_size.numpy()).context.tensors(z)
        likelihood, curves = model.in_context(model.predictive_curves(z), context)
        return source_of(likelihood.sample(curves, z, generator).numpy(), log_size=log_size.numpy())

    known = _range(model, drawn(300, 0.0, 1))
    for log_mean in (-1.0, 0.0, 2.0, 4.0):
        source = drawn(300, log_mean, 2)
        assert _beyond(known, model, source).mean() < 0.01
        if 0 <= log_mean:
            described = known.described(source, inference_for(model, N_DRAWS).placed(source).log_likelihood)
            assert abs(described.mean()) < 1.5
            assert 0.5 < described.std() < 2


def test_rows_whose_numbers_overflow_are_beyond():
    model, source = _model(), source_of(random_table("gaussian", 3, 8))
    lost = Placement(torch.zeros(3, 1).double(), torch.tensor([0.0, math.nan, -math.inf]).double())
    np.testing.assert_array_equal(TrainingRange(1.0, -1.0).beyond(model, source, lost), [False, True, True])
    lost = Placement(torch.tensor([[0.0], [math.nan], [math.inf]]).double(), torch.zeros(3).double())
    np.testing.assert_array_equal(TrainingRange(1.0, -1.0).beyond(model, source, lost), [False, True, True])


def test_without_a_distribution_of_latents_none_is_far_out():
    model = _model("amortized", variational=False)
    known = TrainingRange(farthest=1.0)
    far = Placement(torch.full((3, 1), 1e6).double(), torch.zeros(3).double())
    assert not known.beyond(model, source_of(random_table("gaussian", 3, 8)), far).any()


def test_the_warning_says_how_many_and_which_is_the_first():
    with pytest.warns(UserWarning, match=r"^2 samples \(the first is row 3\) .* Look for wrong units"):
        warn_of_rows_beyond(np.array([False, False, False, True, False, True]))
    with pytest.warns(UserWarning, match=r"^2 samples .* most of the samples"):
        warn_of_rows_beyond(np.array([True, True, False]))
    warn_of_rows_beyond(np.zeros(4, bool))
