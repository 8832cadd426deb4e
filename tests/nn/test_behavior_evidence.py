"""Evidence of behaviours: against draws of the prior, on curves of known shapes, and calibrated under the prior."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from skdevae.nn import behavior_evidence as module
from skdevae.nn.behavior_evidence import behavior_evidence, log_prior_shares
from skdevae.nn.curve_shapes import shapes_of
from skdevae.nn.smooth_curves import BinnedColumns, SmoothCurves, kernel, log_node_prior, root

NAMES = ("increasing", "decreasing", "transient", "dip", "flat", "free")
MARGIN = 0.15
B = 20
#: middles of 20 bins of a standard normal axis
Z = stats.norm.ppf((np.arange(B) + 0.5) / B)


@pytest.fixture
def only_nodes(monkeypatch):
    """Restrict the smooth prior to some lengths and shares of variance."""

    def restrict(lengths, shares):
        for name in ("smooth_curves", "behavior_evidence"):
            monkeypatch.setattr(f"skdevae.nn.{name}.LENGTHS", lengths)
        monkeypatch.setattr("skdevae.nn.smooth_curves.SHARES", shares)
        log_prior_shares.cache_clear()

    yield restrict
    log_prior_shares.cache_clear()


def _columns_around(curves, noise=0.25, n=100, seed=0):
    """Columns (B, D) of n entries each, whose noise variance is known to be 1, around curves (B, D) / sqrt(noise)."""
    random = np.random.default_rng(seed)
    information = np.full((B, 1), n / B)
    response = curves / noise**0.5 + random.normal(size=curves.shape) * (B / n) ** 0.5
    return BinnedColumns(*map(torch.from_numpy, (Z, information, response)), None, torch.tensor([float(n)]).double())


def _measured(curve, sd, n, n_features=40, seed=0):
    """Columns of n measurements at random places, which follow a curve with noise. Their noise is not known."""
    random = np.random.default_rng(seed)
    z = np.sort(random.normal(size=n))
    curve = (curve(z) - curve(z).mean()) / (curve(z).std() or 1)
    entries = (curve[:, None] + random.normal(0, sd, (n, n_features))).reshape(B, n // B, n_features)
    mean = entries.mean(1)
    arrays = z.reshape(B, -1).mean(1), np.full((B, 1), n / B), mean, ((entries - mean[:, None]) ** 2).sum((0, 1))
    return BinnedColumns(*map(torch.from_numpy, arrays), torch.tensor([float(n)]).double())


def _evidence(columns, behaviors=NAMES, margin=MARGIN, misfit=None):
    n_features = columns.response.shape[1]
    misfit = torch.zeros(n_features, len(behaviors)).double() if misfit is None else misfit
    return behavior_evidence(SmoothCurves(columns), behaviors, margin, misfit)


def _probabilities(columns, behaviors=NAMES, **options):
    return _evidence(columns, behaviors, **options).softmax(1).numpy()


def _calls(probabilities, behaviors=NAMES):
    return np.array(behaviors, dtype=object)[probabilities.argmax(1)]


# ---- exactness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length, share", [(0.5, 0.3), (1.0, 0.3), (2.0, 0.6)])
def test_evidence_is_the_mean_likelihood_of_prior_curves_in_the_region(length, share, only_nodes):
    """p(data | region) / p(data | flat), by drawing curves of the prior and keeping those that lie in the region."""
    only_nodes((length,), (share,))
    random = np.random.default_rng(0)
    shapes = np.stack([0.4 * np.tanh(Z), -0.4 * Z, 0.6 * np.exp(-(Z**2)), 0.3 * np.sin(2.5 * Z)], 1)
    columns = _columns_around(shapes, noise=1.0, n=60)
    names = [name for name in NAMES if name != "flat"]
    found = _evidence(columns, names).numpy()
    amplitude = SmoothCurves(columns).amplitudes.item()
    drawn = amplitude**0.5 * root(kernel(columns.z, length)).numpy() @ random.normal(size=(B, 100_000))
    regions = shapes_of(torch.from_numpy(drawn), names, MARGIN).numpy()
    regions[regions < 0] = names.index("free")
    weight = columns.information[:, 0].numpy()
    n_compared = 0
    for j in range(shapes.shape[1]):
        response = columns.response[:, j].numpy()

        def log_likelihood(curves, response=response):
            """Up to a constant, and with the level integrated out: its prior is flat."""
            residual = response[:, None] - curves
            residual = residual - np.average(residual, axis=0, weights=weight)
            return -0.5 * weight @ residual**2

        log_values = log_likelihood(drawn) - log_likelihood(np.zeros((B, 1)))
        values = np.exp(log_values - log_values.max())
        for k in range(len(names)):
            inside = values[regions == k]
            effective = inside.sum() ** 2 / (inside**2).sum()
            posterior = inside.sum() / values.sum()
            if effective < 100 or posterior < 0.05:  # not enough draws on either side
                continue
            expected = np.log(inside.mean()) + log_values.max()
            error = np.hypot(effective**-0.5, ((1 - posterior) / posterior / module._DRAWS) ** 0.5)
            assert found[j, k] == pytest.approx(expected, abs=4 * error + 0.03), (j, names[k])
            n_compared += 1
    assert n_compared >= 6


def test_nodes_are_averaged_over(only_nodes):
    """The evidence under several nodes is the mean of the evidences under one each."""
    curve = np.stack([np.tanh(Z), np.exp(-(Z**2))], 1)
    names = [name for name in NAMES if name != "flat"]
    columns = _columns_around(curve, noise=0.5)
    single, weights = [], []
    lengths, shares = (0.5, 1.0), (0.3, 0.6)
    for length in lengths:
        for share, width in zip(shares, (0.45, 0.55), strict=True):  # the stretch of shares that lie next to each
            only_nodes((length,), (share,))
            single.append(_evidence(columns, names).numpy())
            weights.append(width / len(lengths))
    only_nodes(lengths, shares)
    expected = logsumexp(single, b=np.array(weights)[:, None, None], axis=0)
    found = _evidence(columns, names).numpy()
    likely = expected > expected.max(1, keepdims=True) - 3
    assert likely.sum() >= 3
    np.testing.assert_allclose(found[likely], expected[likely], atol=0.05)  # nodes of little evidence are left out


def test_a_flat_curve_has_the_evidence_that_all_others_are_measured_against():
    columns = _measured(np.tanh, 1.0, 60)
    evidence = _evidence(columns)
    assert (evidence[:, NAMES.index("flat")] == 0).all()
    assert evidence.isfinite().all()
    without = _evidence(columns, NAMES[:4] + NAMES[5:])
    assert torch.equal(evidence[:, [0, 1, 2, 3, 5]], without)


def test_everything_that_is_not_flat_is_free_where_nothing_else_is_offered():
    """The region then holds all curves: its evidence is that of the smooth prior."""
    columns = _columns_around(np.stack([np.tanh(Z), 0 * Z, np.sin(3 * Z)], 1))
    found = _evidence(columns, ("flat", "free"))
    assert (found[:, 0] == 0).all()
    curves = SmoothCurves(columns)
    expected = (curves.log_evidence + log_node_prior(columns.response)[..., None]).flatten(0, 1).logsumexp(0)
    # "free" is all of the prior's draws, but for half a draw; nodes of little evidence are left out
    np.testing.assert_allclose(found[:, 1], expected, atol=0.1)


def test_a_free_curve_shows_nothing_of_what_else_is_offered():
    """What takes a behaviour off the list gives its curves to "free"."""
    columns = _measured(lambda z: np.exp(-2 * z**2), 0.4, 200)
    assert (_calls(_probabilities(columns)) == "transient").all()
    fewer = ("increasing", "flat", "free")
    assert (_calls(_probabilities(columns, fewer), fewer) == "free").all()


def test_the_order_of_names_does_not_matter():
    columns = _measured(lambda z: np.tanh(z) + np.exp(-(z**2)), 1.0, 100)
    order = [3, 5, 0, 4, 2, 1]
    other = _evidence(columns, tuple(NAMES[k] for k in order))
    np.testing.assert_allclose(other, _evidence(columns)[:, order], atol=1e-9)


@pytest.mark.parametrize("entries", [1, 10_000])
def test_features_are_judged_one_by_one(entries, monkeypatch):
    """Whatever others there are, and however many are drawn at once."""
    columns = _measured(lambda z: np.sin(1.5 * z), 1.0, 100, 4)
    together = _evidence(columns)
    alone = [
        _evidence(dataclasses.replace(columns, response=columns.response[:, [j]], spread=columns.spread[[j]]))
        for j in range(4)
    ]
    np.testing.assert_allclose(torch.cat(alone), together, atol=1e-6)
    monkeypatch.setattr(module, "_DRAW_ENTRIES", entries)
    np.testing.assert_allclose(_evidence(columns), together, atol=1e-6)


# ---- what no draw has hit -------------------------------------------------------------------------------------------


def test_misfit_decides_where_no_region_is_hit():
    """A wave rises nowhere for long enough: neither of two behaviours has a draw, and the better fit wins."""
    columns = _measured(lambda z: np.sin(3 * z), 0.2, 200, 3)
    names, misfit = ("increasing", "decreasing"), torch.tensor([[0, 7.0], [7, 0], [2, 2]]).double()
    evidence = _evidence(columns, names, misfit=misfit)
    assert evidence.isfinite().all()
    np.testing.assert_allclose(evidence[:, 0] - evidence[:, 1], [7, -7, 0], atol=1e-9)
    # where regions are hit it does not matter
    rising = _measured(np.tanh, 0.2, 200, 3)
    assert torch.equal(_evidence(rising, names, misfit=misfit)[:, 0], _evidence(rising, names)[:, 0])


def test_a_region_without_a_draw_is_less_probable_than_draws_can_tell():
    """Its evidence is below what a single draw would have given it, in a region as rare as the prior allows."""
    columns = _measured(lambda z: np.sin(3 * z), 0.2, 200, 3)
    curves = SmoothCurves(columns)
    best = (curves.log_evidence + log_node_prior(columns.response)[..., None]).flatten(0, 1).amax(0)
    assert (_evidence(columns)[:, :4] < (best - np.log(module._DRAWS))[:, None]).all()


# ---- known shapes ---------------------------------------------------------------------------------------------------

SHAPES = {
    "tanh": ("increasing", np.tanh),
    "saturating": ("increasing", lambda z: 1 - np.exp(-(z + 2.5))),
    "step": ("increasing", lambda z: 1.0 * (z > 0.4)),
    "line": ("increasing", lambda z: z),
    "sigmoid": ("decreasing", lambda z: -1 / (1 + np.exp(-3 * z))),
    "exponential": ("decreasing", lambda z: np.exp(-z)),
    "bump": ("transient", lambda z: np.exp(-2 * (z - 0.2) ** 2)),
    "narrow": ("transient", lambda z: np.exp(-8 * (z + 0.3) ** 2)),
    "parabola": ("dip", lambda z: z**2),
    "well": ("dip", lambda z: -np.exp(-2 * (z + 0.2) ** 2)),
    "wave": ("free", lambda z: np.sin(3 * z)),
}


@pytest.mark.parametrize("n, sd", [(60, 0.2), (200, 0.5), (1000, 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_clear_shapes_are_called_what_they_are(shape, n, sd):
    behavior, curve = SHAPES[shape]
    probabilities = np.concatenate([_probabilities(_measured(curve, sd, n, 15, seed)) for seed in range(2)])
    calls = _calls(probabilities)
    assert (calls == behavior).mean() >= 0.9
    assert ((calls != behavior) & (probabilities.max(1) > 0.9)).sum() <= 1
    # and with some confidence
    assert np.median(probabilities[:, NAMES.index(behavior)]) > 0.85


@pytest.mark.parametrize("n, flat", [(60, 0.7), (200, 0.85), (1000, 0.93)])
def test_noise_is_flat_and_the_more_so_the_more_there_is(n, flat):
    """With few samples a curve may be too weak to be seen: the evidence then says little, and says it rarely loud."""
    probabilities = _probabilities(_measured(lambda z: 0 * z, 1.0, n, 200))
    calls = _calls(probabilities)
    assert (calls == "flat").mean() > flat
    assert ((calls != "flat") & (probabilities.max(1) > 0.8)).mean() <= 0.02


@pytest.mark.parametrize("n", [60, 400])
def test_noise_is_seldom_better_explained_by_a_curve(n):
    """Of data that are flat, at most a share 1 / x have an evidence of x times the flat one's, whatever the region."""
    ratios = _evidence(_columns_around(np.zeros((B, 200)), n=n)).exp()[:, [0, 1, 2, 3, 5]].numpy()
    for x in (3, 10, 30):
        assert ((ratios > x).mean(0) <= 1 / x + 3 * (1 / x / 200) ** 0.5).all()


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("shape", ["tanh", "line", "bump", "well", "wave"])
def test_hardly_any_call_with_confidence_is_wrong_where_noise_is_strong(shape, n):
    behavior, curve = SHAPES[shape]
    probabilities = _probabilities(_measured(curve, 1.5, n, 60))
    wrong = (_calls(probabilities) != behavior) & (_calls(probabilities) != "flat") & (probabilities.max(1) > 0.9)
    assert wrong.mean() <= 0.05


def test_more_samples_make_a_rise_clearer():
    medians = [np.median(_probabilities(_measured(np.tanh, 1.5, n))[:, 0]) for n in (40, 200, 1000, 5000)]
    assert (np.diff(medians) > 0).all()


def test_a_dip_counts_as_a_broken_rise_from_the_margin_on():
    """A rise that is interrupted by a clear fall is one under a large margin, and none under a small one."""

    def curve(z):
        return z + 1.3 * np.exp(-8 * (z + 0.2) ** 2)  # falls by about a fifth of its range

    columns = _measured(curve, 0.05, 1000)
    names = ("increasing", "free")
    tight, loose = (_calls(_probabilities(columns, names, margin=margin), names) for margin in (0.02, 0.5))
    assert (tight == "free").all()
    assert (loose == "increasing").all()


# ---- symmetries -----------------------------------------------------------------------------------------------------


def _swapped(columns, sign_of_z, sign_of_x):
    flip = (lambda tensor: tensor.flip(0)) if sign_of_z < 0 else (lambda tensor: tensor)
    return dataclasses.replace(
        columns,
        z=flip(sign_of_z * columns.z),
        information=flip(columns.information),
        response=flip(sign_of_x * columns.response),
    )


@pytest.mark.parametrize("shape", ["tanh", "exponential", "bump", "parabola", "wave", None])
@pytest.mark.parametrize("signs, order", [((-1, 1), [1, 0, 2, 3, 4, 5]), ((1, -1), [1, 0, 3, 2, 4, 5])])
def test_reversing_the_axis_or_the_feature_swaps_behaviors(shape, signs, order):
    columns = _measured(SHAPES[shape][1] if shape else lambda z: 0 * z, 1.0, 100)
    before, after = _probabilities(columns), _probabilities(_swapped(columns, *signs))
    change = np.abs(after[:, order] - before)
    # As far as draws can tell: one of them weighs much where few curves of the prior are free.
    assert change.mean() < 0.03
    assert np.quantile(change, 0.99) < 0.25
    assert np.abs((after[:, order] - before).mean(0)).max() < 0.05


@pytest.mark.parametrize("margin", [0.05, MARGIN, 0.4])
def test_mirrored_regions_are_as_large_as_each_other(margin):
    shares = log_prior_shares(tuple(Z), NAMES, margin).exp()
    assert torch.equal(shares[:, 0], shares[:, 1])
    assert torch.equal(shares[:, 2], shares[:, 3])


def test_regions_of_the_prior_hold_their_share_of_independent_draws():
    found = log_prior_shares(tuple(Z), NAMES, MARGIN).exp().numpy()
    draws = np.random.default_rng(5).normal(size=(B, 20_000))
    for length, shares in zip(module.LENGTHS, found, strict=True):
        curves = root(kernel(torch.from_numpy(Z), length)).numpy() @ draws
        shapes = shapes_of(torch.from_numpy(curves), NAMES, MARGIN).numpy()
        for k in (0, 1, 2, 3, 5):
            counted = (shapes == k).mean() if NAMES[k] != "free" else (shapes < 0).mean()
            if counted > 0.001:
                assert shares[k] == pytest.approx(counted, rel=0.02, abs=4 * (counted / 10_000) ** 0.5)
            else:  # too rare to count
                assert shares[k] < 0.002


@pytest.mark.parametrize("margin", [0.02, 0.05, MARGIN])
def test_rare_regions_are_rarer_the_shorter_the_length(margin):
    """Extrapolation goes on downwards, and not to nothing."""
    log_shares = log_prior_shares(tuple(Z), NAMES, margin)
    assert log_shares.isfinite().all()
    assert (log_shares[:, :2].diff(dim=0) > 0).all()
    assert (log_shares[0, :2] < log_shares[1, :2] - 1).all()
    assert (log_shares[0, :2] > -40).all()


# ---- calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_is_known", [True, False])
def test_probabilities_are_calibrated_under_the_prior(noise_is_known, only_nodes):
    """Behaviour, node and curve are drawn as the model has it; of calls that are p sure, p are right.

    Short lengths are left out, so that every region holds enough curves of the prior to draw from.
    """
    lengths, shares = (1.0, 2.0, 5.0), (0.3, 0.85)
    only_nodes(lengths, shares)
    random = np.random.default_rng(1)
    names, n, n_features = ("increasing", "decreasing", "transient", "dip", "flat"), 100, 1000
    of_kind = {}
    for length in lengths:
        curves = root(kernel(torch.from_numpy(Z), length)).numpy() @ random.normal(size=(B, 40_000))
        shapes = shapes_of(torch.from_numpy(curves), names, MARGIN).numpy()
        for k in range(4):
            of_kind[length, k] = curves[:, shapes == k]
            assert of_kind[length, k].shape[1] > 1000
    amplitudes = SmoothCurves(_columns_around(np.zeros((B, 1)), n=n)).amplitudes[..., 0].numpy()
    truth = random.integers(0, len(names), n_features)
    curves = np.zeros((B, n_features))
    for j in np.nonzero(truth < 4)[0]:
        length = random.integers(len(lengths))
        share = random.choice(2, p=[0.575, 0.425])  # up to half-way between them, and from there on
        drawn = of_kind[lengths[length], truth[j]]
        curves[:, j] = amplitudes[length, share] ** 0.5 * drawn[:, random.integers(drawn.shape[1])]
    columns = _columns_around(curves, noise=1.0, n=n)
    if not noise_is_known:
        spread = torch.from_numpy(stats.chi2(n - B).rvs(n_features, random_state=1))
        columns = dataclasses.replace(columns, spread=spread)
    probabilities = _probabilities(columns, names)
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((10 * sure).astype(int), 9)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    assert sum(gaps) < 0.04
    assert right[sure > 0.9].mean() > 0.92
    assert (sure > 0.9).mean() > 0.3
    # every probability, not only the largest: each behaviour is as frequent as it is said to be
    is_so = np.arange(len(names)) == truth[:, None]
    np.testing.assert_allclose(probabilities.mean(0), is_so.mean(0), atol=0.03)
