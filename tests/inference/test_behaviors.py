"""Behaviours of columns: judged with the rows where the other columns place them, in whatever way the table is read."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from agreement import assert_agree
from inference.random_models import FLOAT64, random_model, random_table, source_of
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from skdevae import BasisDeVAEClusterer
from skdevae.inference import behaviors as module
from skdevae.inference.behaviors import column_groups, evidence_of_behaviors
from skdevae.nn import smooth_curves
from skdevae.nn.binned_columns import N_BINS, bin_columns, binned, bins_of
from skdevae.nn.cluster_prior import ASSIGNMENTS
from skdevae.nn.latent_grid import GridStatistics, LatentGrid
from skdevae.nn.linear_tables import LinearTables
from skdevae.nn.smooth_curves import SmoothCurves
from skdevae.table import source as row_sources
from skdevae.table.source import RowSource
from skdevae.training.behaviors import judge_

NAMES = ("increasing", "decreasing", "transient", "dip", "flat", "free")
GRID = LatentGrid.standard_normal(65, 4.0)
D = 7  # no other size of the model is 7, so that columns can be found in its parameters
#: nats by which rounding may move evidence: one draw more or less that keeps a rule
ONE_DRAW = 0.1


def _model(likelihood="gaussian", names=NAMES, seed=0):
    model = random_model("exact", likelihood, n_features=D, n_components=1, behaviors=names, n_samples=80, seed=seed)
    model.margin = 0.15
    return model


def _table(model, n=80, *, missing=0.0, seed=0, counts=False):
    """A table whose columns follow the axis, with holes: as many as ``missing`` on average, and most in column 0."""
    random = np.random.default_rng(seed)
    z = random.normal(size=n)
    curve = 1 + np.outer(z, [1, -1, 0.5, -0.5, 0.2, 0, 1])
    curve[:, 4] += np.exp(-(z**2))
    table = random.poisson(np.exp(curve)).astype(float) if counts else random.normal(curve, 0.5)
    return np.where(random.random(table.shape) < missing * np.linspace(1.5, 0.5, D), np.nan, table)


def _evidence(model, source):
    return evidence_of_behaviors(model, source, GRID, torch.from_numpy(source.varying_columns()))


def _with_columns(model, order):
    """The same model with its columns in another order."""
    other = random_model(
        "exact",
        type(model.likelihood).__name__.lower(),
        n_features=D,
        n_components=1,
        behaviors=model.decoder.names,
        n_samples=80,
    )
    other.margin = model.margin
    state = model.state_dict()
    for name, value in state.items():
        for dimension, size in enumerate(value.shape):
            if size == D:
                value = value.index_select(dimension, torch.tensor(order))
        state[name] = value
    other.load_state_dict(state)
    return other


# ---- against brute force --------------------------------------------------------------------------------------------


def _entry_log_probs(model, table):
    """Log-likelihood of every entry at every grid point, averaged over the candidates that are not flat: (N, P, D)."""
    phi = model.assignment.responsibilities.numpy().copy()  # (D, K)
    phi[:, model.decoder.names.index("flat")] = 0
    phi /= phi.sum(1, keepdims=True)
    curves = model.curves(GRID.points).numpy()  # (P, K, D)
    x = table[:, None, None]
    if type(model.likelihood).__name__ == "Gaussian":
        log_probs = stats.norm.logpdf(x, curves, model.likelihood.scale.numpy())
    else:
        log_probs = stats.poisson.logpmf(x, np.exp(curves))
    return np.where(np.isnan(table)[:, None], 0, (log_probs * phi.T).sum(2))


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize("n_groups", [3, 20])
def test_a_column_is_judged_by_a_posterior_that_its_group_had_no_part_in(likelihood, missing, n_groups, monkeypatch):
    """Everything by hand for each column: the posterior without its group, the sums in bins, and the evidence."""
    monkeypatch.setattr(module, "_GROUPS", {False: n_groups, True: n_groups})
    model = _model(likelihood)
    table = _table(model, missing=missing, counts=likelihood == "poisson")
    log_probs = _entry_log_probs(model, table)
    log_prior = stats.norm.logpdf(GRID.points[:, 0].numpy())
    # The same groups as in the package: columns are dealt out by how much they tell of the axis.
    groups = column_groups(module._as_if_none_were_flat(model, GRID), n_groups)
    assert sorted(torch.cat(groups).tolist()) == list(range(D))
    group_of = {j: group.tolist() for group in groups for j in group.tolist()}
    observed = ~np.isnan(table)
    filled = np.where(observed, table, 0)
    z_of_groups, masses, columns = [], {}, {}
    for j, group in group_of.items():
        others = [i for i in range(D) if i not in group]
        log_q = log_probs[..., others].sum(2) + log_prior
        q = np.exp(log_q - np.logaddexp.reduce(log_q, axis=1, keepdims=True))
        mass = torch.from_numpy(q.sum(0))
        bins = bins_of(mass)
        if j == group[0]:
            z_of_groups.append((bins @ (mass * GRID.points[:, 0])) / (bins @ mass))
            masses[j] = bins @ mass
        seen = torch.from_numpy(q.T @ observed[:, [j]])
        columns[j] = binned(
            GridStatistics(torch.from_numpy(q.T @ filled[:, [j]]), None, seen, FLOAT64, len(table)), bins
        )
    z = torch.stack(z_of_groups).mean(0)
    found = module.columns_without_their_own_help(model, source_of(table), GRID)
    assert_agree(found.z, z)
    if likelihood == "gaussian":
        for j, sums in columns.items():
            squares = torch.tensor([(filled[:, j] ** 2).sum()])
            one = bin_columns(sums, z, model.linear_likelihood, squares)
            own = j if missing else 0
            assert_agree(found.information[:, own], one.information[:, 0], computed_in=np.float32)
            assert_agree(found.response[:, j], one.response[:, 0], computed_in=np.float32)
            assert_agree(found.spread[j], one.spread[0], computed_in=np.float32)
            assert_agree(found.n_entries[own], one.n_entries[0], computed_in=np.float32)
    else:
        together = GridStatistics(
            torch.cat([columns[j].weighted for j in range(D)], 1),
            None,
            torch.cat([columns[j].mass for j in range(D)], 1),
            FLOAT64,
            len(table),
        )
        expected = bin_columns(together, z, model.linear_likelihood, torch.zeros(D))
        assert_agree(found.response, expected.response, computed_in=np.float32)
        assert_agree(found.information, expected.information, computed_in=np.float32)
    assert found.response.shape == (N_BINS, D)


def test_what_a_column_says_of_itself_does_not_move_its_rows():
    """Its rows stay where they are when its own noise variance makes it the loudest of all."""
    model = _model()
    source = source_of(_table(model))
    quiet = module.columns_without_their_own_help(model, source, GRID)
    with torch.no_grad():
        model.likelihood.raw_scale[2] -= 3
    loud = module.columns_without_their_own_help(model, source, GRID)
    assert_agree(loud.response[:, 2], quiet.response[:, 2])
    assert (loud.response[:, 0] - quiet.response[:, 0]).abs().max() > 0.01


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_misfit_is_what_a_column_loses_under_a_fitted_curve(likelihood):
    """Nats less than under the best curve that varies; a flat one may be better still, and then loses nothing."""
    model = _model(likelihood)
    source = source_of(_table(model, counts=likelihood == "poisson"))
    columns = module.columns_without_their_own_help(model, source, GRID)
    curves = model.curves(columns.z[:, None])  # (B, K, D)
    found = module._misfit(curves, SmoothCurves(columns), model.flat_candidate)
    sd = (SmoothCurves(columns).noise / columns.information).sqrt()[:, None]
    log_density = stats.norm.logpdf(columns.response[:, None], curves, sd.expand_as(curves)).sum(0)  # (K, D)
    best = np.delete(log_density, NAMES.index("flat"), axis=0).max(0)
    assert_agree(found, (best - log_density).clip(0).T)


def test_groups_share_the_columns_out_by_what_they_tell():
    slope = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None] * torch.tensor([3.0, 0, 9, 1, 5, 0, 7])
    tables = LinearTables(torch.zeros(9, 7), slope, None)
    assert [group.tolist() for group in column_groups(tables, 3)] == [[2, 0, 5], [6, 3], [4, 1]]
    assert [group.tolist() for group in column_groups(tables, 100)] == [[2], [6], [4], [0], [3], [1], [5]]
    # those that tell nothing do not change the groups of others
    fewer = column_groups(tables.of_columns(torch.tensor([0, 2, 3, 4, 6])), 3)
    assert [group.tolist() for group in fewer] == [[1, 0], [4, 2], [3]]


# ---- ways to read a table -------------------------------------------------------------------------------------------


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("likelihood, missing", [("gaussian", 0.0), ("gaussian", 0.3), ("nb", 0.0), ("poisson", 0.3)])
@pytest.mark.parametrize("rows_at_a_time", [1, 7, 30])
def test_evidence_does_not_depend_on_chunks(likelihood, missing, rows_at_a_time, monkeypatch):
    model = _model(likelihood)
    source = source_of(_table(model, missing=missing, counts=likelihood != "gaussian"))
    expected, columns = _evidence(model, source), module.columns_without_their_own_help(model, source, GRID)
    monkeypatch.setattr(row_sources, "_CHUNK_ENTRIES", rows_at_a_time * len(GRID.points))
    assert len(list(source.chunks(len(GRID.points)))) == -(-80 // rows_at_a_time)
    assert_agree(module.columns_without_their_own_help(model, source, GRID).response, columns.response)
    np.testing.assert_allclose(_evidence(model, source), expected, atol=ONE_DRAW)


@pytest.mark.parametrize("likelihood, missing", [("gaussian", 0.0), ("gaussian", 0.3), ("poisson", 0.0)])
@pytest.mark.parametrize("columns_at_a_time", [1, 3])
def test_evidence_does_not_depend_on_how_many_columns_are_judged_at_once(
    likelihood, missing, columns_at_a_time, monkeypatch
):
    model = _model(likelihood)
    source = source_of(_table(model, missing=missing, counts=likelihood == "poisson"))
    together = _evidence(model, source)
    per_column = len(smooth_curves.LENGTHS) * N_BINS**2
    monkeypatch.setattr(smooth_curves, "_BLOCK_ENTRIES", columns_at_a_time * per_column)
    assert_agree(_evidence(model, source), together)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_chunk_without_missing_entries_is_like_one_with(missing, monkeypatch):
    """Holes in the last row alone: all other chunks are complete."""
    model = _model()
    table = _table(model)
    table[-1, :5] = np.nan
    expected = module.columns_without_their_own_help(model, source_of(table), GRID)
    monkeypatch.setattr(row_sources, "_CHUNK_ENTRIES", 10 * len(GRID.points))
    found = module.columns_without_their_own_help(model, source_of(table), GRID)
    for name in ("information", "response", "spread", "n_entries"):
        assert_agree(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize("n_groups", [3, 20])
def test_evidence_does_not_depend_on_the_order_of_rows_and_columns(likelihood, n_groups, monkeypatch):
    monkeypatch.setattr(module, "_GROUPS", {False: n_groups, True: n_groups})
    model = _model(likelihood)
    table = _table(model, missing=0.2, counts=likelihood == "poisson")
    expected = _evidence(model, source_of(table))
    random = np.random.default_rng(0)
    np.testing.assert_allclose(_evidence(model, source_of(random.permutation(table))), expected, atol=ONE_DRAW)
    order = random.permutation(D)
    found = _evidence(_with_columns(model, order), source_of(table[:, order]))
    np.testing.assert_allclose(found, expected[order], atol=ONE_DRAW)


@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb", "bernoulli"])
def test_sparse_tables_are_judged_like_dense_ones(likelihood):
    model = _model(likelihood)
    table = random_table(likelihood, 80, D)
    dense, sparse = source_of(table), source_of(sp.csr_array(table))
    columns = [module.columns_without_their_own_help(model, source, GRID) for source in (dense, sparse)]
    assert_agree(columns[1].response, columns[0].response)
    np.testing.assert_allclose(_evidence(model, sparse), _evidence(model, dense), atol=ONE_DRAW)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "zinb", "bernoulli"])
def test_evidence_is_finite_and_measured_against_a_flat_curve(likelihood):
    model = _model(likelihood)
    table = random_table(likelihood, 80, D, missing=0.3)
    table[:, 3] = np.nan
    table[5, 3] = 1  # hardly observed, and constant
    table[:, 2] = np.where(np.arange(80) < 3, [*range(2)] * 40, np.nan)  # hardly observed, and not constant
    evidence = _evidence(model, source_of(table))
    assert evidence.dtype == torch.float64
    assert evidence.isfinite().all()
    assert (evidence[:, NAMES.index("flat")] == 0).all()
    assert evidence.softmax(1)[3, NAMES.index("flat")] == 1
    assert evidence[2].abs().max() < 10  # three entries tell little


# ---- constant columns -----------------------------------------------------------------------------------------------


def test_constant_columns_are_flat_without_a_doubt():
    model = _model()
    table = _table(model)
    table[:, 2] = 3.5
    source = source_of(table)
    probabilities = _evidence(model, source).softmax(1)
    assert probabilities[2].tolist() == [float(name == "flat") for name in NAMES]
    # where nothing may be flat, they tell nothing
    names = tuple(name for name in NAMES if name != "flat")
    assert (_evidence(_model(names=names), source)[2] == 0).all()


@pytest.mark.parametrize("name", ASSIGNMENTS)
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_features_without_a_vote_do_not_change_what_others_are(name, gamma):
    evidence = 3 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mute = torch.zeros(8, 4, dtype=torch.float64)
    mute[:, 1] = 50
    alone, together = (ASSIGNMENTS[name](n, 4, 0.3).double() for n in (12, 20))
    if name == "noncollapsed":  # its weights are learned elsewhere
        together.log_concentration.data.copy_(alone.log_concentration)
    alone.update_(evidence, gamma)
    votes = torch.cat([torch.ones(12), torch.zeros(8)]).double()
    together.update_(torch.cat([evidence, mute]), gamma, votes=votes)
    np.testing.assert_allclose(together.responsibilities[:12].detach(), alone.responsibilities.detach(), atol=1e-6)
    assert (together.labels[12:] == 1).all()
    everyone = ASSIGNMENTS[name](12, 4, 0.3).double()
    everyone.update_(evidence, gamma, votes=torch.ones(12).double())
    assert torch.equal(everyone.responsibilities, alone.responsibilities)
    if name == "collapsed":
        together.update_(torch.cat([evidence, mute]), gamma)
        assert (together.responsibilities[:12] - alone.responsibilities).abs().max() > 0.01


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_to_lean_is_to_follow_ones_own_evidence_alone(name):
    evidence = 3 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assignment = ASSIGNMENTS[name](12, 4, 0.3).double()
    assignment.lean_(evidence + 1e3)
    assert_agree(assignment.responsibilities.detach(), evidence.softmax(1))


@pytest.mark.parametrize("may_be_flat", [True, False])
def test_judging_turns_evidence_into_responsibilities(may_be_flat):
    """Those of the columns that vary, which alone have a vote."""
    model = _model()
    table = _table(model)
    table[:, [1, 5]] = 0.0
    source = source_of(table)
    varying = torch.from_numpy(source.varying_columns())
    evidence = evidence_of_behaviors(model, source, GRID, varying)
    if not may_be_flat:
        evidence[:, NAMES.index("flat")] = -1e6
    alone = ASSIGNMENTS["collapsed"](5, len(NAMES), 1.0).double()
    alone.update_(evidence[varying])
    assert not model.is_judged
    judge_(model, source, varying, GRID, may_be_flat=may_be_flat)
    assert model.is_judged
    found = model.assignment.responsibilities
    np.testing.assert_allclose(found[varying], alone.responsibilities.detach(), atol=1e-5)
    if may_be_flat:
        assert (found[~varying, NAMES.index("flat")] > 0.999).all()
    else:
        assert (found[:, NAMES.index("flat")] < 1e-6).all()


# ---- what the model says of itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, margin, judges, flat",
    [
        (NAMES, 0.15, True, 4),
        (NAMES, None, False, 4),
        (("increasing", "free"), 0.15, True, None),
        (("flat", "dip"), 0.15, True, 0),
        (("flat",), 0.15, False, None),
    ],
)
def test_models_judge_behaviors_where_there_are_some_to_judge(names, margin, judges, flat):
    model = _model(names=names)
    model.margin = margin
    assert model.judges_behaviors is judges
    assert model.flat_candidate == flat
    evidence = torch.randn(D, len(names), generator=torch.Generator().manual_seed(0))
    ruled = model.without_flat(evidence)
    others = [k for k in range(len(names)) if k != flat]
    assert torch.equal(ruled[:, others], evidence[:, others])
    if flat is not None:
        assert (ruled.softmax(1)[:, flat] == 0).all()
        assert (evidence[:, flat] > -1e3).all()  # what came in is as it was


# ---- columns that vary ----------------------------------------------------------------------------------------------


def _vary_by_brute_force(table):
    return [len({value for value in column if not np.isnan(value)}) > 1 for column in table.T.tolist()]


@pytest.mark.parametrize("stored", ["dense", "sparse", "mapped", "float32"])
@pytest.mark.parametrize("entries", [2_000_000, 30, 1])
def test_varying_columns_have_two_values(stored, entries, tmp_path, monkeypatch):
    monkeypatch.setattr(row_sources, "_DENSE_ENTRIES", entries)
    table = np.random.default_rng(0).integers(0, 3, (12, 6)).astype(float)
    table[:, 1] = 0
    table[:, 2] = 7
    table[:, 3] = [0] * 11 + [4]
    table[:, 4] = [-2] + [0] * 11
    expected = _vary_by_brute_force(table)
    assert expected == [True, False, False, True, True, True]
    match stored:
        case "sparse":
            table = sp.csr_array(table)
        case "mapped":
            np.save(tmp_path / "table.npy", table)
            table = np.load(tmp_path / "table.npy", mmap_mode="r")
        case "float32":
            table = table.astype(np.float32)
    found = RowSource(table, None, None, FLOAT64).varying_columns()
    assert found.shape == (6,)
    assert found.dtype == bool
    assert found.tolist() == expected


@pytest.mark.parametrize("entries", [2_000_000, 10, 1])
def test_missing_entries_are_no_values_of_their_own(entries, monkeypatch):
    monkeypatch.setattr(row_sources, "_DENSE_ENTRIES", entries)
    hole = np.nan
    table = np.array(
        [[hole, 1, hole, 0, 5], [hole, 1, 2, hole, 6], [hole, hole, hole, 0, hole], [hole, 1, hole, 0, hole]]
    )
    found = RowSource(table, None, None, FLOAT64).varying_columns()
    assert found.tolist() == _vary_by_brute_force(table) == [False, False, False, False, True]


def test_zeros_that_are_stored_are_zeros():
    table = sp.csr_array((np.array([0.0, 2.0, 2.0, 0.0]), np.array([0, 1, 1, 2]), np.array([0, 2, 4])), shape=(2, 4))
    assert source_of(table).varying_columns().tolist() == [False, False, False, False]
    one_more = sp.csr_array(np.vstack([table.toarray(), [0, 0, 0, 1]]))
    assert source_of(one_more).varying_columns().tolist() == [False, True, False, True]


# ---- whole fits -----------------------------------------------------------------------------------------------------


def _fitted(table, **options):
    options = {"max_epochs": 30, "hidden_layer_sizes": (8,), "random_state": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # short fits
        return BasisDeVAEClusterer(**options).fit(table)


@pytest.mark.slow
def test_noise_has_no_behavior():
    """Tables of noise alone, of several sizes: hardly a column is said to be anything but flat."""
    sizes = [(60, 4), (60, 10), (100, 8), (200, 6)]
    called = []
    for seed in range(20):
        n, n_features = sizes[seed % 4]
        fitted = _fitted(np.random.default_rng(seed).normal(size=(n, n_features)), random_state=seed, max_epochs=12)
        is_flat = fitted.cluster_names_[fitted.labels_] == "flat"
        called.extend(~is_flat & (fitted.responsibilities_.max(1) > 0.8))
    assert np.mean(called) <= 0.05


def _progression(n=100, seed=0):
    random = np.random.default_rng(seed)
    z = random.normal(size=n)
    curves = [np.tanh(z), z, -z, -np.tanh(1.5 * z), 3 * np.exp(-(z**2)), np.exp(0.7 * z), 0 * z, 0 * z]
    names = ["increasing"] * 2 + ["decreasing"] * 2 + ["transient", "increasing", "flat", "flat"]
    return random.normal(np.stack(curves, 1), 0.3), names


def _assert_behaviors(fitted, names):
    """What varies is called what it is, and of what is flat nothing else is said with confidence."""
    found = fitted.cluster_names_[fitted.labels_]
    for name, called, sure in zip(names, found, fitted.responsibilities_.max(1), strict=False):
        assert called == name or (name == "flat" and sure < 0.8)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_fits_find_the_behaviors_and_do_not_mind_constant_columns(missing):
    table, names = _progression()
    table[np.random.default_rng(1).random(table.shape) < missing] = np.nan
    fitted = _fitted(table, orientation=0)
    _assert_behaviors(fitted, names)
    constant = np.column_stack([table, np.full((len(table), 12), 2.5)])
    with_constants = _fitted(constant, orientation=0)
    _assert_behaviors(with_constants, names)
    flat = with_constants.cluster_names_.tolist().index("flat")
    np.testing.assert_allclose(with_constants.responsibilities_[8:, flat], 1, atol=1e-6)
    # Another draw of starting weights, and so another fit: but no more than that.
    np.testing.assert_array_equal(with_constants.labels_[:8], fitted.labels_)
    np.testing.assert_allclose(with_constants.responsibilities_[:8], fitted.responsibilities_, atol=0.1)
