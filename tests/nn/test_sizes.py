"""Sizes of rows: sums that they weight, and dispersions that go with them, against one entry after another."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from agreement import assert_agree
from scipy import stats

from skdevae.nn.likelihoods import LIKELIHOODS
from skdevae.nn.row_context import RowContext
from skdevae.nn.rows import DenseRows
from skdevae.table.column_summary import summarize_columns
from skdevae.table.source import RowSource, SparseRows

FLOAT64 = torch.zeros((), dtype=torch.float64)
N_ROWS, N_FEATURES, N_POINTS = 12, 5, 4


def likelihood_of(name, *, scales=True):
    """A likelihood with random parameters."""
    options = {"scales_dispersion": scales} if LIKELIHOODS[name].has_dispersion else {}
    likelihood = LIKELIHOODS[name](N_FEATURES, **options).double().requires_grad_(False)
    for seed, parameter in enumerate(likelihood.parameters()):
        parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return likelihood


@pytest.fixture
def case():
    """Counts, log sizes, and curves at some points."""
    random = np.random.default_rng(0)
    return {
        "x": random.poisson(2.0, (N_ROWS, N_FEATURES)).astype(float),
        "log_size": torch.from_numpy(random.normal(size=N_ROWS)),
        "curves": torch.from_numpy(random.normal(size=(N_POINTS, N_FEATURES))),
        "q": torch.from_numpy(random.dirichlet(np.ones(N_POINTS), N_ROWS)),
        "missing": random.random((N_ROWS, N_FEATURES)) < 0.3,
    }


def rows_of(case, stored):
    size = case["log_size"].exp()
    if stored == "sparse":
        return SparseRows(sp.csr_array(case["x"]), FLOAT64, size=size), np.ones((N_ROWS, N_FEATURES))
    observed = None if stored == "dense" else torch.from_numpy((~case["missing"]).astype(float))
    x = torch.from_numpy(case["x"])
    there = torch.ones_like(x) if observed is None else observed
    return DenseRows(x * there, observed, size=size), there.numpy()


@pytest.mark.parametrize("stored", ["dense", "gaps", "sparse"])
@pytest.mark.parametrize("name", ["poisson", "nb"])
def test_products_are_sums_over_entries_of_scipys_log_probabilities(case, stored, name):
    likelihood = likelihood_of(name)
    rows, there = rows_of(case, stored)
    tables = likelihood.tables(case["curves"], torch.zeros(N_POINTS, 1))
    ours = rows.log_likelihood(tables) + likelihood.row_constant(rows)[:, None]
    e = case["log_size"].exp().numpy()[:, None, None]
    mean, x = e * np.exp(case["curves"].numpy()), case["x"][:, None]
    if name == "poisson":
        expected = stats.poisson.logpmf(x, mean)
    else:
        dispersion = e * likelihood.dispersion.numpy()
        expected = stats.nbinom.logpmf(x, dispersion, dispersion / (dispersion + mean))
    assert_agree(ours, (expected * there[:, None]).sum(2))


@pytest.mark.parametrize("stored", ["dense", "gaps", "sparse"])
def test_mass_is_the_sum_of_the_sizes_of_observed_entries(case, stored):
    rows, there = rows_of(case, stored)
    weighted, _, mass = rows.expectations(case["q"], with_positive=False)
    q = case["q"].numpy()
    assert_agree(mass.expand(-1, N_FEATURES), q.T @ (case["log_size"].exp().numpy()[:, None] * there))
    assert_agree(weighted, q.T @ (case["x"] * there))


@pytest.mark.parametrize("stored", ["dense", "gaps", "sparse"])
def test_some_rows_and_some_columns_have_their_part(case, stored):
    rows, _ = rows_of(case, stored)
    tables = likelihood_of("nb").tables(case["curves"], torch.zeros(N_POINTS, 1))
    index, columns = torch.tensor([7, 2, 2]), torch.tensor([4, 0])
    everything = rows.log_likelihood(tables)
    assert_agree(rows.take(index).log_likelihood(tables), everything[index])
    others = torch.tensor([1, 2, 3])
    parts = [rows.of_columns(some).log_likelihood(tables.of_columns(some)) for some in (columns, others)]
    assert_agree(sum(parts), everything)
    assert_agree(rows.dense().log_likelihood(tables), everything)


@pytest.mark.parametrize("name", ["poisson", "nb", "zinb"])
@pytest.mark.parametrize("scales", [False, True])
def test_rows_of_a_size_have_means_and_dispersions_of_their_own(case, name, scales):
    likelihood = likelihood_of(name, scales=scales)
    log_size = case["log_size"]
    curves, x = case["curves"][:1].expand(N_ROWS, -1), torch.from_numpy(case["x"])
    z = torch.zeros(N_ROWS, 1, dtype=torch.float64)
    sized = likelihood.of_size(log_size)
    ours = sized.row_log_prob(DenseRows(x, None), curves + log_size[:, None], z)
    for row in range(N_ROWS):
        alone = likelihood_of(name, scales=scales)
        if scales and name != "poisson":
            alone.log_dispersion += log_size[row]
        theirs = alone.row_log_prob(DenseRows(x[[row]], None), curves[[row]] + log_size[row], z[[row]])
        assert_agree(ours[[row]], theirs)
    # candidates, averaged over their probabilities
    phi = torch.full((2, N_FEATURES), 0.5, dtype=torch.float64)
    both = torch.stack([curves + log_size[:, None]] * 2, 1)
    assert_agree(sized.expected_row_log_prob(DenseRows(x, None), both, z, phi), ours)
    # and the one that it was made from is as it was
    assert likelihood.log_dispersion.shape == (N_FEATURES,) if name != "poisson" else True


def test_a_sample_of_size_two_is_the_sum_of_two_samples():
    likelihood = likelihood_of("nb")
    mean, dispersion = 1.7, float(likelihood.dispersion[0])
    x = np.arange(60)
    one = stats.nbinom.pmf(x, dispersion, dispersion / (dispersion + mean))
    size = torch.full((30,), 2.0, dtype=torch.float64)
    values = torch.zeros(30, N_FEATURES, dtype=torch.float64)
    values[:, 0] = torch.arange(30)
    rows = DenseRows(values, None, size=size).of_columns(torch.tensor([0]))
    single = LIKELIHOODS["nb"](1, scales_dispersion=True).double().requires_grad_(False)
    single.log_dispersion[:] = likelihood.log_dispersion[0]
    tables = single.tables(torch.full((1, 1), np.log(mean), dtype=torch.float64), torch.zeros(1, 1))
    ours = rows.log_likelihood(tables)[:, 0] + single.row_constant(rows)
    assert_agree(ours.exp(), np.convolve(one, one)[:30])


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_listed_counts_and_their_mean_sizes_stand_for_all_entries(stored, weighted):
    random = np.random.default_rng(1)
    log_size = random.normal(0, 0.6, 4000)
    table = random.negative_binomial(2, 2 / (2 + np.exp(log_size[:, None] + [0.0, 1.0, -1.0, 2.0, 0.5]))).astype(float)
    weight = random.integers(0, 3, 4000).astype(float) if weighted else None
    source = RowSource(stored(table), None, None, FLOAT64, RowContext(log_size=log_size, weight=weight))
    summary = summarize_columns(source, counts=True)
    counted = np.ones(4000) if weight is None else weight
    assert_agree(summary.sum_of_squares, counted @ (table * np.exp(-log_size[:, None])) ** 2)
    assert_agree(torch.zeros(5, dtype=torch.float64).index_add(0, summary.column, summary.value * summary.multiplicity),
                 counted @ table)  # fmt: skip
    for name in ("poisson", "nb"):
        likelihood = likelihood_of(name).requires_grad_(True)
        entries = likelihood.sized_constant(
            torch.from_numpy(table), torch.from_numpy(log_size)[:, None], *likelihood.own_parameters()
        )
        exact = torch.from_numpy(counted) @ entries
        ours = likelihood.column_constant(summary)
        np.testing.assert_allclose(ours.detach(), exact.detach(), atol=5e-4 * counted.sum())  # nats a row
        if name == "nb":  # what the dispersion is learned from
            gradients = [torch.autograd.grad(part.sum(), likelihood.log_dispersion)[0] for part in (ours, exact)]
            np.testing.assert_allclose(*gradients, rtol=5e-3)
    assert len(summary.value) < 0.1 * np.count_nonzero(table)
