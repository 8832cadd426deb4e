"""Strata: rows of equal covariates, whose coefficients differ by an offset, against each stratum alone."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from agreement import assert_agree

from skdevae.nn.latent_grid import LatentGrid, log_joint, summarize
from skdevae.nn.linear_tables import LinearTables
from skdevae.nn.rows import DenseRows
from skdevae.nn.strata import StratifiedRows, repeated_over_strata, spread_over_strata, summed_over_strata
from skdevae.table.source import SparseRows

FLOAT64 = torch.zeros((), dtype=torch.float64)
N_ROWS, N_FEATURES, N_POINTS, N_STRATA = 11, 4, 5, 3


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    shape = (N_STRATA * N_POINTS, N_FEATURES)
    return {
        "x": random.poisson(1.5, (N_ROWS, N_FEATURES)).astype(float),
        "missing": random.random((N_ROWS, N_FEATURES)) < 0.3,
        "stratum": torch.from_numpy(np.append(random.integers(2, size=N_ROWS - 1), 2)),
        "tables": LinearTables(*(torch.from_numpy(random.normal(size=shape)) for _ in range(3))),
        "q": torch.from_numpy(random.dirichlet(np.ones(N_POINTS), N_ROWS)),
        "size": torch.from_numpy(random.uniform(0.5, 2, N_ROWS)),
    }


def plain(case, stored):
    if stored == "sparse":
        return SparseRows(sp.csr_array(case["x"]), FLOAT64)
    observed = None if stored == "dense" else torch.from_numpy((~case["missing"]).astype(float))
    x = torch.from_numpy(case["x"])
    return DenseRows(x if observed is None else x * observed, observed)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("stored", ["dense", "gaps", "sparse"])
def test_each_stratum_has_its_own_coefficients_and_sums(case, stored, sized):
    rows = plain(case, stored).sized(case["size"] if sized else None)
    stratified = StratifiedRows(rows, case["stratum"], N_STRATA)
    found = stratified.log_likelihood(case["tables"])
    sums = stratified.expectations(case["q"], with_positive=True)
    for number in range(N_STRATA):
        members = (case["stratum"] == number).nonzero()[:, 0]
        block = slice(number * N_POINTS, (number + 1) * N_POINTS)
        alone = rows.take(members)
        assert_agree(found[members], alone.log_likelihood(case["tables"].at(block)))
        for ours, theirs in zip(sums, alone.expectations(case["q"][members], with_positive=True), strict=True):
            assert_agree(ours[block], theirs.expand(-1, ours.shape[1]))


@pytest.mark.parametrize("stored", ["dense", "gaps", "sparse"])
def test_some_rows_and_some_columns_are_in_the_same_strata(case, stored):
    rows = StratifiedRows(plain(case, stored), case["stratum"], N_STRATA)
    index, columns = torch.tensor([10, 3, 3]), torch.tensor([2, 0])
    assert_agree(rows.take(index).log_likelihood(case["tables"]), rows.log_likelihood(case["tables"])[index])
    others = torch.tensor([1, 3])
    parts = [rows.of_columns(some).log_likelihood(case["tables"].of_columns(some)) for some in (columns, others)]
    assert_agree(sum(parts), rows.log_likelihood(case["tables"]))


def test_strata_without_effects_add_up_to_rows_without_strata(case):
    grid = LatentGrid.standard_normal(N_POINTS, 3.0).to(FLOAT64)
    rows = plain(case, "dense")
    tables = case["tables"].at(slice(0, N_POINTS))
    everywhere = LinearTables(*(part.repeat(N_STRATA, 1) for part in tables))
    stratified = StratifiedRows(rows, case["stratum"], N_STRATA)
    assert_agree(log_joint(stratified, everywhere, grid), log_joint(rows, tables, grid))
    zeros = torch.zeros(N_STRATA, N_FEATURES)
    ours, theirs = (summarize(each, case["q"], grid.log_mass, True) for each in (stratified, rows))
    for name in ("weighted", "positive", "mass"):
        assert_agree(summed_over_strata(getattr(ours, name), zeros), getattr(theirs, name), err_msg=name)
    assert_agree(ours.divergence, theirs.divergence)


def test_curves_are_spread_one_stratum_after_another():
    random = torch.Generator().manual_seed(0)
    curves, offsets = torch.randn(5, 2, 3, generator=random), torch.randn(4, 3, generator=random)
    spread = spread_over_strata(curves, offsets)
    for stratum in range(4):
        assert torch.equal(spread[5 * stratum : 5 * (stratum + 1)], curves + offsets[stratum])
    assert torch.equal(repeated_over_strata(curves, offsets)[5:10], curves)
    assert spread_over_strata(curves, None) is repeated_over_strata(curves, None) is curves
