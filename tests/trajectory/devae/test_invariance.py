"""What must not matter to DeVAETransformer: units, orders of rows and columns, and which rows come together."""

import numpy as np
import pytest
from agreement import assert_agree
from by_hand import with_holes
from numpy.testing import assert_allclose, assert_array_equal
from trajectory.devae.cases import CASES, EXACT, QUICK_WAYS, WAYS, fitted, progression, quick, signs, table_for


@pytest.mark.parametrize("way", QUICK_WAYS)
def test_units_do_not_matter(way):
    table = with_holes(progression().data, 0.05)
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-3, 3, table.shape[1])
    shift = generator.normal(0, 10, table.shape[1]) * factor
    ours, theirs = quick(**WAYS[way]).fit(table), quick(**WAYS[way]).fit(factor * table + shift)
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=5e-3)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    in_theirs = theirs.score_samples(factor * table + shift)
    assert_allclose(in_theirs, in_other_units, rtol=0, atol=0.02)
    assert_allclose(in_theirs.mean(), in_other_units.mean(), rtol=0, atol=2e-3)
    log_units = (~np.isnan(table) @ np.log(factor)).mean()
    assert_allclose(theirs.lower_bound_, ours.lower_bound_ - log_units, rtol=0, atol=2e-3)
    z = np.zeros((1, ours.n_components))
    assert_allclose(theirs.derivatives(z)[0].T / factor, ours.derivatives(z)[0].T, atol=1e-3)


def test_a_negative_factor_is_the_opposite_constraint():
    factor = np.resize([1, -1], 8)
    table, turned = progression().data, progression().data * factor
    # The starting weights of unconstrained features do not turn with them: long enough to forget them.
    ours = quick(monotonic_cst=signs(), max_epochs=40).fit(table)
    theirs = quick(monotonic_cst=signs() * factor, max_epochs=40).fit(turned)
    assert np.corrcoef(theirs.transform(turned)[:, 0], ours.transform(table)[:, 0])[0, 1] > 0.999
    assert_allclose(theirs.score(turned), ours.score(table), atol=0.2)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("way", EXACT)
def test_permuted_columns_have_permuted_curves(way):
    # up to the starting weights, which are drawn column by column
    table, order = progression().data, np.random.default_rng(0).permutation(8)
    parameters = {"max_epochs": 60 if way == "exact" else 30, "monotonic_cst": signs(), **WAYS[way]}
    ours = quick(**parameters).fit(table)
    theirs = quick(**{**parameters, "monotonic_cst": signs()[order]}).fit(table[:, order])
    assert_array_equal(theirs.monotonic_cst_, ours.monotonic_cst_[order])
    if way == "exact":
        points = np.linspace(-2, 2, 21)
        spread = np.ptp(ours.trajectories(points), axis=0).max()
        assert_allclose(theirs.trajectories(points), ours.trajectories(points)[:, order], atol=0.1 * spread)
        assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.1)
        assert_allclose(theirs.noise_scale_, ours.noise_scale_[order], rtol=0.25)
    else:
        assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.5)


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize(("likelihood", "way"), CASES)
def test_rows_are_judged_one_by_one(likelihood, way):
    model, table = fitted(likelihood, way), with_holes(table_for(likelihood)[:3], share=0.1)
    together, scores = model.transform(table), model.score_samples(table)
    order = np.array([2, 0, 1])
    batches = [table[:1], table[1:]]
    assert_agree(np.vstack([model.transform(batch) for batch in batches]), together)
    assert_agree(np.concatenate([model.score_samples(batch) for batch in batches]), scores)
    assert_agree(model.transform(table[order]), together[order])
    assert_agree(model.score_samples(table[order]), scores[order])
