"""What must not matter to BasisDeVAEClusterer: units, orders of rows and columns, and which rows come together."""

import numpy as np
import pytest
from agreement import assert_agree
from by_hand import LIKELIHOODS, with_holes
from numpy.testing import assert_allclose, assert_array_equal
from trajectory.basisdevae.cases import (
    INFERENCES,
    fitted,
    fitted_to_the_simulation,
    progression,
    quick,
    simulation,
    table_for,
    thorough,
)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("inference", INFERENCES)
def test_units_do_not_matter(inference):
    table = with_holes(progression().data, share=0.05)
    generator = np.random.default_rng(0)
    factor = 10 ** generator.uniform(-4, 4, table.shape[1])
    shift = generator.normal(0, 100, table.shape[1]) * factor
    ours = quick(inference=inference).fit(table)
    theirs = quick(inference=inference).fit(factor * table + shift)
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(factor * table + shift), ours.transform(table), atol=1e-4)
    in_other_units = ours.score_samples(table) - ~np.isnan(table) @ np.log(factor)
    assert_allclose(theirs.score_samples(factor * table + shift), in_other_units, rtol=0, atol=1e-3)
    assert_allclose(theirs.noise_scale_, factor * ours.noise_scale_, rtol=1e-4)
    points = [-1.0, 0.0, 2.0]
    assert_allclose((theirs.trajectories(points) - shift) / factor, ours.trajectories(points), atol=1e-3)
    log_units = (~np.isnan(table) @ np.log(factor)).mean()
    assert_allclose(theirs.lower_bound_, ours.lower_bound_ - log_units, rtol=0, atol=1e-3)


def test_permuted_columns_have_permuted_labels():
    # up to the starting weights, which are drawn column by column
    table = simulation().data
    order = np.random.default_rng(0).permutation(table.shape[1])
    ours = fitted_to_the_simulation()
    theirs = thorough().fit(table[:, order])
    assert_array_equal(theirs.labels_, ours.labels_[order])
    assert_allclose(theirs.score(table[:, order]), ours.score(table), atol=0.1)
    assert_allclose(theirs.noise_scale_, ours.noise_scale_[order], rtol=0.1)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_permuted_rows_are_the_same_model(likelihood):
    table = table_for(likelihood)
    order = np.random.default_rng(0).permutation(len(table))
    ours, theirs = fitted(likelihood), quick(likelihood=likelihood).fit(table[order])
    assert_array_equal(theirs.labels_, ours.labels_)
    assert_allclose(theirs.transform(table), ours.transform(table), atol=1e-2)
    assert_allclose(theirs.score(table), ours.score(table), atol=1e-3)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_rows_are_judged_one_by_one(likelihood, inference):
    model, table = fitted(likelihood, inference), with_holes(table_for(likelihood)[:40], share=0.1)
    together = model.transform(table)
    assert_agree(np.vstack([model.transform(table[i : i + 1]) for i in range(8)]), together[:8])
    assert_agree(np.vstack([model.transform(batch) for batch in np.array_split(table, 3)]), together)
    order = np.random.default_rng(0).permutation(len(table))
    assert_agree(model.transform(table[order]), together[order])
    scores = np.concatenate([model.score_samples(batch) for batch in np.array_split(table, 3)])
    assert_agree(scores, model.score_samples(table))


@pytest.mark.parametrize("inference", INFERENCES)
def test_columns_are_judged_on_sums_over_rows(inference):
    model, table = fitted(inference=inference), progression().data
    probabilities = model.predict_features_proba(table)
    assert probabilities.shape == (table.shape[1], 4)
    assert_allclose(probabilities.sum(1), 1)
    assert_array_equal(model.predict_features(table), probabilities.argmax(1))
    order = np.random.default_rng(0).permutation(len(table))
    assert_agree(model.predict_features_proba(table[order]), probabilities)
    # every row twice is the same opinion, only firmer
    firm = probabilities.max(1) > 0.95
    assert firm.mean() > 0.5
    assert_array_equal(model.predict_features(np.vstack([table, table]))[firm], model.predict_features(table)[firm])
