"""The composed model against brute-force loops with scipy's densities: evidence, gradients, missing entries."""

import math
import pickle

import numpy as np
import pytest
import torch
from agreement import assert_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logsumexp, softmax

from skdevae.nn.latent_grid import (
    LatentGrid,
    bumps_around,
    distribution,
    distribution_and_log,
    log_joint,
    summarize,
    without_traces,
)
from skdevae.nn.losses import LossTerms
from skdevae.nn.models import ExactModel, base, build_model
from skdevae.nn.rows import DenseRows
from skdevae.table.column_summary import summarize_columns
from skdevae.table.source import RowSource

FLOAT64 = torch.zeros((), dtype=torch.float64)
D = 4
N = 7
GRIDS = {1: LatentGrid.standard_normal(21, 4.0), 2: LatentGrid.standard_normal(9, 4.0, 2)}
GRID = GRIDS[1]
BEHAVIORS = ["increasing", "decreasing", "transient"]
LIKELIHOODS = ["gaussian", "nb", "zinb"]

NETWORK = {"hidden_layer_sizes": (3,), "activation": "tanh"}
INTEGRAL = {"integrator": "grid", "n_knots": 11, "z_max": 4.0}
CLUSTERS = {"name": "collapsed", "n_clusters": 3, "alpha": 0.7}
COPIES = {"name": "basis", "n_clusters": 3, "basis": None, "scale_bounds": (0.2, 3.0), **NETWORK, **INTEGRAL}
#: dimensions of the latent, decoder, assignment
KINDS = {
    "behaviours": (1, {"name": "derivative", "behaviors": BEHAVIORS, **NETWORK, **INTEGRAL}, CLUSTERS),
    "sums over two axes": (
        2,
        {"name": "additive", "n_components": 2, "signs": (1, -1, 0, 1), **NETWORK, **INTEGRAL},
        None,
    ),
    "network of two axes": (2, {"name": "neural", "n_components": 2, **NETWORK}, None),
    "shifted copies": (1, {**COPIES, "n_components": 1, "max_shift": 1.5}, CLUSTERS),
    "copies on two axes": (2, {**COPIES, "n_components": 2, "max_shift": 0.0}, CLUSTERS),
}


def _model(likelihood, behaviors=BEHAVIORS, *, seed=0, kind="behaviours", assignment="collapsed", alpha=0.7, **options):
    """A float64 model whose every parameter is random."""
    n_components, decoder, clusters = KINDS[kind]
    if kind == "behaviours":
        decoder = {**decoder, "behaviors": behaviors}
        clusters = {"name": assignment, "n_clusters": len(behaviors), "alpha": alpha}
    own = {"gaussian": {"floor": 0.1}, "nb": {}, "zinb": {"n_components": n_components}}[likelihood]
    config = {
        "n_samples": N,
        "n_features": D,
        "n_components": n_components,
        "decoder": decoder,
        "likelihood": {"name": likelihood, **own},
        "assignment": clusters,
        "encoder": None,
        "z_max": 4.0,
        "weight_precision": 0.3,
        "beta": 1.0,
        "gamma": 1.0,
    }
    assert set(options) <= set(config)
    generator = torch.Generator().manual_seed(seed)
    model = build_model({**config, **options}, generator).double()
    assert isinstance(model, ExactModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6, generator=generator)
    return model


def _table(likelihood, n=N, *, missing=0.0, seed=1):
    generator = np.random.default_rng(seed)
    if likelihood == "gaussian":
        table = generator.normal(size=(n, D))
    else:
        table = generator.negative_binomial(0.8, 0.3, size=(n, D)).astype(float)
    table[generator.random((n, D)) < missing] = np.nan
    return table


def _grid(model):
    return GRIDS[model.n_components]


def _statistics(model, table):
    """The E-step: sums of the data under the optimal q(z)."""
    grid = _grid(model)
    with torch.no_grad():
        rows = RowSource(table, None, None, FLOAT64).rows(slice(None))
        return model.expected_statistics(rows, model.tables_on(grid), grid)


def _summary(model, table):
    return summarize_columns(RowSource(table, None, None, FLOAT64), counts=model.likelihood.counts)


def _loss(model, table, statistics=None):
    statistics = _statistics(model, table) if statistics is None else statistics
    return model(statistics, _summary(model, table), _grid(model))


def _log_likelihood_by_loops(model, table):
    """``E_q(w) log p(x_i | z_g, w)``, summed over the entries that are there, one at a time: (N, P)."""
    with torch.no_grad():
        phi = model.assignment.responsibilities.numpy()
        curves = model.curves(_grid(model).points).numpy()
        own = {name: value.detach().numpy() for name, value in model.likelihood.named_parameters()}
        scale = model.likelihood.scale.numpy() if "raw_scale" in own else None
    z = _grid(model).points.numpy()

    def log_density(x, curve, j):
        if scale is not None:
            return stats.norm.logpdf(x, curve, scale[j])
        dispersion = np.exp(own["log_dispersion"][j])
        counted = stats.nbinom.logpmf(x, dispersion, dispersion / (dispersion + np.exp(curve)))
        if "inflation_logits" not in own:
            return counted
        level, *slopes = own["inflation_logits"][:, j]
        assert len(slopes) == z.shape[1]
        dropped = expit(level + sum(slope * axis for slope, axis in zip(slopes, z.T, strict=True)))
        return np.log(dropped * (x == 0) + (1 - dropped) * np.exp(counted))

    total = np.zeros((len(table), len(z)))
    for i, j in zip(*np.nonzero(~np.isnan(table)), strict=True):
        for k in range(phi.shape[1]):
            total[i] += phi[j, k] * log_density(table[i, j], curves[:, k, j], j)
    return total


def _expected_loss(model, table):
    """Minus the (tempered) mean log evidence by loops, plus the terms that count once for all samples."""
    beta = model.beta
    scores = _log_likelihood_by_loops(model, table)
    evidence = beta * logsumexp(scores / beta + _grid(model).log_mass.numpy(), axis=1)
    with torch.no_grad():
        phi = model.assignment.responsibilities.T
        clusters = model.assignment.divergence().item()
        shared = model.decoder.shared_log_prior(model.weight_precision) + model.likelihood.log_prior()
        parameters = -(phi * model.candidate_log_prior()).sum().item() - shared.item()
    return -evidence.mean() + (model.gamma * clusters + parameters) / model.n_samples


@pytest.mark.slow(keep=28)
@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing entries"])
@pytest.mark.parametrize("beta", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_after_the_e_step_is_minus_the_log_evidence(kind, likelihood, beta, missing):
    model = _model(likelihood, kind=kind, beta=beta, gamma=1.7)
    table = _table(likelihood, missing=missing)
    assert np.isnan(table).any() == (missing > 0)
    assert _loss(model, table).total.item() == pytest.approx(_expected_loss(model, table), abs=1e-9)


@pytest.mark.parametrize("n_samples", [N, 1000])
def test_terms_that_count_once_are_divided_by_the_training_samples(n_samples):
    # a part of the table may be at hand, but the globals belong to the whole
    model = _model("gaussian", n_samples=n_samples)
    table = _table("gaussian")
    loss = _loss(model, table)
    assert loss.total.item() == pytest.approx(_expected_loss(model, table), abs=1e-9)
    assert loss.clusters.item() == pytest.approx(model.assignment.divergence().item())
    with torch.no_grad():
        assert loss.parameters.item() == pytest.approx(-model.log_prior().item())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kind", KINDS)
def test_e_step_is_the_posterior(kind, likelihood, beta, temperature):
    model = _model(likelihood, kind=kind, beta=beta)
    log_mass = _grid(model).log_mass.numpy()
    model.latent_temperature = temperature
    table = _table(likelihood, missing=0.2)
    scores = _log_likelihood_by_loops(model, table) / (beta * temperature) + log_mass
    q = softmax(scores, axis=1)
    observed = ~np.isnan(table)
    filled = np.where(observed, table, 0)
    statistics = _statistics(model, table)
    np.testing.assert_allclose(statistics.mass.numpy(), q.T @ observed, atol=1e-10)
    np.testing.assert_allclose(statistics.weighted.numpy(), q.T @ filled, atol=1e-10)
    assert (statistics.positive is not None) == (likelihood == "zinb")
    if likelihood == "zinb":
        np.testing.assert_allclose(statistics.positive.numpy(), q.T @ (filled > 0), atol=1e-10)
    divergence = sum(stats.entropy(row, np.exp(log_mass)) for row in q)
    # scipy normalises the prior, whose mass on a grid is 1 but for the tails
    divergence -= N * logsumexp(log_mass)
    assert statistics.divergence.item() == pytest.approx(divergence, abs=1e-9)
    assert statistics.n_rows == N


@pytest.mark.slow(keep=12)
@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_other_posterior_has_a_greater_loss(kind, likelihood, beta):
    model = _model(likelihood, kind=kind, beta=beta)
    grid = _grid(model)
    table = _table(likelihood, missing=0.2)
    least = _loss(model, table).total.item()
    rows = RowSource(table, None, None, FLOAT64).rows(slice(None))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        best = log_joint(rows, model.tables_on(grid), grid, beta)
        for spread in (0.01, 0.1, 1.0, 10.0):
            noise = torch.randn(best.shape, generator=generator, dtype=torch.float64)
            other = summarize(rows, (best + spread * noise).softmax(1), grid.log_mass, likelihood == "zinb")
            assert _loss(model, table, other).total.item() > least


def _log_evidence(model, table):
    """Summed log evidence as a function of the parameters, through no statistics: a scalar with a gradient."""
    rows = RowSource(table, None, None, FLOAT64).rows(slice(None))
    grid = _grid(model)
    tables = model.averaged_tables_at(grid.points)
    scores = rows.log_likelihood(tables) + grid.log_mass
    return (scores.logsumexp(1) + model.likelihood.row_constant(rows)).sum()


def _gradients(module, scalar):
    """By name, of the parameters that are learned by gradient; the graph is kept for another module's."""
    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    return dict(zip(named, torch.autograd.grad(scalar, list(named.values()), retain_graph=True), strict=True))


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing entries"])
@pytest.mark.parametrize("behavior", ["increasing", "transient", "free"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradient_is_that_of_the_log_evidence(likelihood, behavior, missing):
    """Fisher's identity, with one behaviour: every parameter, and the statistics held fixed."""
    model = _model(likelihood, [behavior])
    table = _table(likelihood, missing=missing)
    assert _log_evidence(model, table).item() == pytest.approx(
        logsumexp(_log_likelihood_by_loops(model, table) + GRID.log_mass.numpy(), axis=1).sum()
    )
    loss, expected = _loss(model, table).total, -(_log_evidence(model, table) + model.log_prior()) / N
    for part in (model.decoder.hidden, model.decoder.behaviors[0], model.likelihood):
        ours, theirs = _gradients(part, loss), _gradients(part, expected)
        assert ours
        for name, gradient in theirs.items():
            assert (gradient != 0).all(), name
            torch.testing.assert_close(ours[name], gradient, msg=name)


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing entries"])
@pytest.mark.parametrize("kind", ["sums over two axes", "network of two axes"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradient_is_that_of_the_log_evidence_on_two_axes(likelihood, kind, missing):
    """Fisher's identity, with decoders that have one curve for each feature: every parameter."""
    model = _model(likelihood, kind=kind)
    table = _table(likelihood, missing=missing)
    evidence = _log_evidence(model, table)
    assert evidence.item() == pytest.approx(
        logsumexp(_log_likelihood_by_loops(model, table) + _grid(model).log_mass.numpy(), axis=1).sum()
    )
    ours = _gradients(model, _loss(model, table).total)
    theirs = _gradients(model, -(evidence + model.log_prior()) / N)
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, gradient in theirs.items():
        assert (gradient != 0).all(), name
        torch.testing.assert_close(ours[name], gradient, msg=name)


@pytest.mark.parametrize("kind", ["shifted copies", "copies on two axes"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_each_copy_is_fitted_as_if_it_were_the_features_own(likelihood, kind):
    """As for behaviours below; what features share, the basis functions too, keeps the bound's gradient."""
    model = _model(likelihood, kind=kind)
    table = _table(likelihood)
    loss, bound = _loss(model, table).total, -(_log_evidence(model, table) + model.log_prior()) / N
    of_loss, of_bound = _gradients(model, loss), _gradients(model, bound)
    phi = model.assignment.responsibilities.detach().T
    own = [name for name, gradient in of_loss.items() if gradient.shape == phi.shape and name.startswith("decoder.")]
    assert {"decoder.level", "decoder.raw_scale"} <= set(own)
    assert ("decoder.raw_shift" in own) == (kind == "shifted copies")
    assert any(name.startswith("decoder.basis.") for name in of_loss)
    for name, gradient in of_loss.items():
        assert (gradient != 0).any(), name
        torch.testing.assert_close(phi * gradient if name in own else gradient, of_bound[name], msg=name)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_each_candidate_is_fitted_as_if_it_were_the_features_own(likelihood):
    """With several behaviours the bound's gradient to a candidate has the factor phi, the loss's has one.

    The feature's own parameters (noise, dispersion, dropout) keep the bound's gradient.
    """
    model = _model(likelihood)
    table = _table(likelihood)
    loss, bound = _loss(model, table).total, -(_log_evidence(model, table) + model.log_prior()) / N
    own, of_bound = _gradients(model.likelihood, loss), _gradients(model.likelihood, bound)
    for name in own:
        torch.testing.assert_close(own[name], of_bound[name], msg=name)
    phi = model.assignment.responsibilities.detach()
    for behavior, of_features in zip(model.decoder.behaviors, phi.T, strict=True):
        of_candidate, of_bound = _gradients(behavior, loss), _gradients(behavior, bound)
        assert of_candidate
        for name, gradient in of_candidate.items():
            factor = of_features[:, None] if gradient.ndim == 2 else of_features
            torch.testing.assert_close(factor * gradient, of_bound[name], msg=name)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_candidate_that_a_feature_has_given_up_still_learns(likelihood):
    model = _model(likelihood)
    model.assignment.logits.data[:, 2] = -200.0
    loss = _loss(model, _table(likelihood)).total
    assert all(gradient.isfinite().all() for gradient in _gradients(model, loss).values())
    assert all(gradient.abs().max() > 1e-6 for gradient in _gradients(model.decoder.behaviors[2], loss).values())


def test_missing_entries_drop_out():
    """A feature never seen changes nothing of the others, and neither does what stands in a missing cell."""
    model = _model("gaussian")
    table = _table("gaussian", missing=0.3)
    complete = _table("gaussian")
    assert _loss(model, table).total.item() != pytest.approx(_loss(model, complete).total.item())
    # a row with nothing observed: the prior, and no evidence either way
    with_empty_row = np.vstack([table, np.full(D, np.nan)])
    alone = _statistics(model, with_empty_row[-1:])
    assert not alone.mass.any()
    assert not alone.weighted.any()
    prior_mass = logsumexp(GRID.log_mass.numpy())
    assert alone.divergence.item() == pytest.approx(-prior_mass, abs=1e-12)
    both = _loss(model, with_empty_row)
    expected = (N * _loss(model, table).data_part.item() - prior_mass) / (N + 1)
    assert both.data_part.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing entries"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_statistics_add_over_chunks(likelihood, missing):
    model = _model(likelihood)
    table = _table(likelihood, n=9)
    table[4:][np.random.default_rng(3).random((5, D)) < missing] = np.nan  # in the second chunk only
    whole = _statistics(model, table)
    added = _statistics(model, table[:4]) + _statistics(model, table[4:])
    for name in ("weighted", "positive", "divergence"):
        if getattr(whole, name) is not None:
            torch.testing.assert_close(getattr(added, name), getattr(whole, name))
    torch.testing.assert_close(added.mass.expand(21, D), whole.mass.expand(21, D))
    assert added.n_rows == whole.n_rows == 9
    assert _loss(model, table, added).total.item() == pytest.approx(_loss(model, table, whole).total.item())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("assignment", ["noncollapsed", "fixed"])  # "collapsed" does not maximise the bound
@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
def test_cluster_update_is_the_best_given_the_posterior(likelihood, assignment, gamma):
    model = _model(likelihood, assignment=assignment, gamma=gamma, alpha=0.7, n_samples=60)
    table = _table(likelihood, n=60, missing=0.1)
    statistics = _statistics(model, table)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.update_clusters_(statistics, GRID)
        best, least = model.assignment.logits.clone(), _loss(model, table, statistics).total.item()
        for spread in (0.1, 1.0, 10.0):
            noise = torch.randn(best.shape, generator=generator, dtype=torch.float64)
            model.assignment.logits.copy_(best + spread * noise)
            assert _loss(model, table, statistics).total.item() >= least - 1e-9


def test_shapes_with_more_freedom_pay_for_it():
    """Schwarz's term: half of log N for each parameter of the shape, so that a flat feature is called flat."""
    behaviors = ["increasing", "transient", "flat", "free"]
    few, many = (_model("gaussian", behaviors, n_samples=n) for n in (10, 1000))
    difference = (few.candidate_log_prior() - many.candidate_log_prior()).detach()
    price = torch.tensor([behavior.n_shape_parameters for behavior in few.decoder.behaviors]).double()
    torch.testing.assert_close(difference, (0.5 * math.log(100) * price)[:, None].expand(-1, D))
    assert price[2] == 0
    assert (price[[0, 1, 3]] > 0).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_mirroring_reverses_the_axis_and_changes_nothing_else(likelihood):
    model = _model(likelihood, ["decreasing", "transient", "increasing", "flat"])
    table = _table(likelihood, missing=0.2)
    before, labels = _statistics(model, table), model.labels.tolist()
    with torch.no_grad():
        predictive = model.predictive_curves(-GRID.points)
        peaks = model.peaks()
        loss = _loss(model, table, before).total.item()
        assert model.can_mirror
        model.mirror_(0)
        after = _statistics(model, table)
        torch.testing.assert_close(after.mass, before.mass.flip(0))
        torch.testing.assert_close(after.weighted, before.weighted.flip(0))
        assert _loss(model, table, after).total.item() == pytest.approx(loss, abs=1e-9)
        torch.testing.assert_close(model.predictive_curves(GRID.points), predictive)
        torch.testing.assert_close(model.peaks(), -peaks, equal_nan=True)
    swapped = {0: 2, 1: 1, 2: 0, 3: 3}
    assert model.labels.tolist() == [swapped[label] for label in labels]


@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("kind", ["sums over two axes", "network of two axes", "copies on two axes"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_mirroring_one_axis_of_two_leaves_the_other_alone(likelihood, kind, component):
    model = _model(likelihood, kind=kind)
    if kind == "sums over two axes":
        assert not model.can_mirror
        model.decoder.signs.zero_()  # free to rise and fall
    table = _table(likelihood, missing=0.2)
    points = GRIDS[2].points
    there = points * torch.tensor([-1.0 if axis == component else 1.0 for axis in range(2)], dtype=torch.float64)

    def reverse(sums):
        return sums.unflatten(0, (9, 9)).flip(component).flatten(0, 1)

    torch.testing.assert_close(reverse(points), there)
    before, labels = _statistics(model, table), model.labels.tolist()
    with torch.no_grad():
        predictive = model.predictive_curves(there)
        loss = _loss(model, table, before).total.item()
        assert model.can_mirror
        model.mirror_(component)
        after = _statistics(model, table)
        torch.testing.assert_close(after.mass, reverse(before.mass))
        torch.testing.assert_close(after.weighted, reverse(before.weighted))
        assert _loss(model, table, after).total.item() == pytest.approx(loss, abs=1e-9)
        torch.testing.assert_close(model.predictive_curves(points), predictive)
        assert not torch.allclose(predictive, model.predictive_curves(there))
    assert model.labels.tolist() == labels


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_predictions_follow_the_labels(likelihood):
    model = _model(likelihood)
    z = GRID.points
    with torch.no_grad():
        model.assignment.logits.copy_(torch.tensor([[3.0, 0, 0], [0, 0, 3], [0, 3, 0], [0, 0, 3]]))
        curves, tables = model.curves(z), model.likelihood.tables(model.curves(z), z)
        assert model.labels.tolist() == [0, 2, 1, 2]
        for j, k in enumerate([0, 2, 1, 2]):
            torch.testing.assert_close(model.predictive_curves(z)[:, j], curves[:, k, j])
            torch.testing.assert_close(model.predictive_tables(z).zero[:, j], tables.zero[:, k, j])
        transient = model.decoder.behaviors[2].peak
        expected = torch.stack([transient[0] * torch.nan, transient[1], transient[2] * torch.nan, transient[3]])
        torch.testing.assert_close(model.peaks(), expected, equal_nan=True)
        # certain of the labels, the average over q(w) is the prediction
        model.assignment.logits.mul_(1e3)
        for averaged, predicted in zip(model.averaged_tables_at(z), model.predictive_tables(z), strict=True):
            if averaged is not None:
                torch.testing.assert_close(averaged, predicted)


def test_initialization_gives_the_likelihood_the_columns_moments():
    table = _table("nb", n=200, missing=0.2)
    model, other = _model("nb"), _model("nb")
    rows = RowSource(table, None, None, FLOAT64).rows(slice(None))
    centers = torch.linspace(-2, 2, 200, dtype=torch.float64)[:, None]
    statistics = summarize(rows, bumps_around(centers, GRID.points, 0.5), GRID.log_mass, with_positive=False)
    model.initialize_(statistics, _summary(model, table), GRID.points)
    other.likelihood.initialize_(torch.from_numpy(np.nanmean(table, 0)), torch.from_numpy(np.nanvar(table, 0)))
    torch.testing.assert_close(model.likelihood.log_dispersion, other.likelihood.log_dispersion)
    assert model.curves(GRID.points).isfinite().all()


@settings(deadline=None)
@given(
    terms=st.lists(st.floats(-100, 100), min_size=4, max_size=4),
    n_samples=st.integers(1, 1000),
    beta=st.floats(0, 3),
    gamma=st.floats(0, 3),
)
def test_total_of_the_terms(terms, n_samples, beta, gamma):
    reconstruction, latent, clusters, parameters = terms
    loss = LossTerms(*(FLOAT64 + term for term in terms), n_samples=n_samples, beta=beta, gamma=gamma)
    assert loss.data_part.item() == pytest.approx(reconstruction + beta * latent, abs=1e-9)
    expected = reconstruction + beta * latent + (gamma * clusters + parameters) / n_samples
    assert loss.total.item() == pytest.approx(expected, abs=1e-9)
    named = dict(zip(("reconstruction", "latent", "clusters", "parameters"), terms, strict=True))
    assert loss.named() == named


def test_an_epoch_of_batches_counts_every_sample_and_every_global_term_once():
    """Weighting each batch's total by its share of the rows gives the total of the whole table."""
    model = _model("nb", n_samples=9)
    table = _table("nb", n=9)
    whole = _loss(model, table).total.item()
    parts = [table[:2], table[2:5], table[5:]]
    of_parts = sum(len(part) / 9 * _loss(model, part).total.item() for part in parts)
    assert of_parts == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_at_a_point_does_not_depend_on_the_other_points(kind):
    """Nor on whether derivatives are taken: points of a grid may be handled by their distinct coordinates."""
    model = _model("gaussian", kind=kind)
    points = _grid(model).points
    with torch.no_grad():
        curves = model.curves(points)
        alone = torch.cat([model.curves(point[None]) for point in points])
    torch.testing.assert_close(curves, alone)
    torch.testing.assert_close(model.curves(points.clone().requires_grad_()), alone)


@pytest.mark.parametrize("n_components", [1, 2])
def test_prior_on_the_grid_is_a_standard_normal(n_components):
    grid = LatentGrid.standard_normal(121, 6.0, n_components)
    mass = grid.log_mass.exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-8)
    moments = torch.einsum("p,pi,pj->ij", mass, grid.points, grid.points)
    np.testing.assert_allclose(moments, np.eye(n_components), rtol=0, atol=1e-6)
    spacing = grid.axis[1] - grid.axis[0]
    expected = stats.norm.logpdf(grid.points).sum(1)
    np.testing.assert_allclose((grid.log_mass - n_components * spacing.log()).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 2])
def test_points_of_a_grid_are_all_combinations_of_its_axis(n_components):
    grid = LatentGrid.standard_normal(7, 3.0, n_components)
    assert grid.n_components == n_components
    np.testing.assert_allclose(grid.axis, [-3, -2, -1, 0, 1, 2, 3])
    assert grid.points.shape == (7**n_components, n_components)
    axes = np.meshgrid(*[grid.axis] * n_components, indexing="ij")
    for component, coordinates in enumerate(axes):
        np.testing.assert_array_equal(grid.unravel(grid.points[:, component][None])[0], coordinates)
    single = grid.to(torch.zeros((), dtype=torch.float32))
    assert single.axis.dtype == single.points.dtype == single.log_mass.dtype == torch.float32


@pytest.mark.parametrize("n_components", [1, 2])
def test_bumps_stand_around_their_centers(n_components):
    points = LatentGrid.standard_normal(121, 6.0, n_components).points
    centers = torch.tensor([[-1.3, 0.7], [0.0, -2.0], [2.2, 0.1]], dtype=torch.float64)[:, :n_components]
    q = bumps_around(centers, points, 0.4)
    torch.testing.assert_close(q.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(q @ points, centers)
    sd = (q @ points**2 - centers**2).sqrt()
    torch.testing.assert_close(sd, torch.full((3, n_components), 0.4, dtype=torch.float64))


# ---- blocks of features ---------------------------------------------------------------------------------------------


def _answers(model, table):
    """Coefficients, evidence of candidates, loss and gradient."""
    grid, statistics = _grid(model), _statistics(model, table)
    loss = _loss(model, table, statistics)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss.total, parameters)
    with torch.no_grad():
        tables = [*model.averaged_tables_at(grid.points), *model.predictive_tables(grid.points)]
        evidence = model.expected_log_likelihood(statistics, grid.points)
    return [loss.total, evidence, *(table for table in tables if table is not None), *gradients]


@pytest.mark.parametrize("columns_at_a_time", [1, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_features_change_nothing(kind, likelihood, columns_at_a_time, monkeypatch):
    model, table = _model(likelihood, kind=kind), _table(likelihood, missing=0.2)
    together = _answers(model, table)
    n_candidates = model.assignment.responsibilities.shape[1]
    size = len(_grid(model).points) * n_candidates * model.decoder.nodes_per_point
    monkeypatch.setattr(base, "_BLOCK_ENTRIES", columns_at_a_time * size)
    assert len(model._blocks(len(_grid(model).points))) == math.ceil(D / columns_at_a_time)
    for block, whole in zip(_answers(model, table), together, strict=True):
        assert_agree(block.detach(), whole.detach())


def test_what_a_step_keeps_does_not_grow_with_the_number_of_blocks(monkeypatch):
    """Until the gradient goes back, hardly more is kept than the parameters: no array of all features' curves."""
    model, table = _model("zinb"), _table("zinb")
    statistics, summary, grid = _statistics(model, table), _summary(model, table), _grid(model)
    curves = len(grid.points) * model.assignment.responsibilities.numel()

    def kept_arrays():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
            model(statistics, summary, grid)
        return sum(size >= curves / D for size in kept)

    assert kept_arrays() > 10
    monkeypatch.setattr(base, "_BLOCK_ENTRIES", 1)
    assert kept_arrays() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_distribution_over_points_is_a_softmax_without_what_is_next_to_nothing(dtype):
    log_joint = 30 * torch.randn(40, 60, generator=torch.Generator().manual_seed(0)).to(dtype)
    log_joint[:, ::7] = -math.inf
    q = distribution(log_joint)
    torch.testing.assert_close(q, log_joint.softmax(1), rtol=1e-5, atol=1e-16)
    assert (q[:, ::7] == 0).all()
    assert (q == without_traces(q)).all()


def test_sums_over_rows_are_the_same_with_logarithms_that_are_known():
    generator = torch.Generator().manual_seed(0)
    rows = DenseRows(torch.randn(40, 5, generator=generator, dtype=torch.float64), None)
    log_joint = 30 * torch.randn(40, len(GRID.points), generator=generator, dtype=torch.float64)
    log_joint[:, ::7] = -math.inf
    log_mass = GRID.log_mass.double()
    q, log_q = distribution_and_log(log_joint)
    assert torch.isfinite(log_q).all()
    known = summarize(rows, q, log_mass, True, log_q)
    plain = summarize(rows, log_joint.softmax(1), log_mass, True)
    for name in ("weighted", "positive", "mass", "divergence"):
        torch.testing.assert_close(getattr(known, name), getattr(plain, name), rtol=1e-10, atol=1e-12)
    relative = q * (q.clamp(min=1e-300).log() - log_mass)
    torch.testing.assert_close(known.divergence, relative.sum())


def test_a_model_that_is_sent_leaves_behind_what_it_has_prepared():
    model = _model("gaussian")
    n_bytes = len(pickle.dumps(model))
    tables = model.tables_on(GRID)
    assert len(pickle.dumps(model)) == n_bytes
    torch.testing.assert_close(pickle.loads(pickle.dumps(model)).tables_on(GRID), tables, rtol=0, atol=0)
