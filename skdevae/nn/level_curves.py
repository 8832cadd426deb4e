"""Curves of levels: whether the curve of a feature differs between the levels of a category, and how.

Along the axis, in rows of level l, a feature's mean on the scale of the link is

    f(z) + a constant for every column of the design + delta_l(z),

with a common curve f of any shape (a piecewise linear one between J knots) and smooth deviations delta_l, which are
Gaussian processes of the kernels of :mod:`~skdevae.nn.smooth_curves`, all lengths averaged, times an amplitude. Under
the null hypothesis the amplitude is zero. The common curve and the constants are not known at all, and eliminated by
the restricted likelihood, so that it does not matter which level comes first.

What is left are independent normal variables ``w_s`` of variance ``sigma^2 (1 + amplitude m_s)``, for the eigenvalues
m_s of what deviations can explain, and the residual sum of squares. Twice the log of the likelihood ratio for a given
amplitude is

    -nu log(1 - Q / S) - sum_s log(1 + amplitude m_s),    Q = sum_s w_s^2 amplitude m_s / (1 + amplitude m_s),

where S is the residual sum of squares of the null hypothesis, on nu degrees of freedom. So it exceeds a bound if a
weighted sum of independent chi-squares exceeds zero, whose distribution is known, for any number of samples. That holds
for an amplitude that does not depend on the entries. The one that is taken makes an alternative that the table can just
tell from the null hypothesis: a test is best there (a point-optimal test), and loses little elsewhere. A maximum over
amplitudes would pile up at zero, and its distribution has no formula.

Entries that are not Gaussian have working residuals and weights. Their dispersion is estimated too, so that a variance
which the likelihood has got wrong does not make differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .smooth_curves import LENGTHS, kernel

#: share of the kernel's variance below which a direction is left out
_LEAST_SHARE = 0.005
#: share of the largest eigenvalue that rounding may leave of one that is zero
_ROUNDING = 1e-8
#: nats by which, on average, the alternative that a test is made for tells itself from the null hypothesis
_DETECTABLE = 2.0
#: powers of 2 by which amplitudes that deviations are averaged over differ from that of the test
_OCTAVES = range(-6, 13, 2)
#: bisections: the last interval is as small as rounding
_BISECTIONS = 60


@dataclass(frozen=True)
class LevelMoments:
    """Sums over the rows of each of L levels, for D features and the J + C columns of a regression.

    The first J columns are the knots of curves, the others those of a design. F is 1 where all features have the same
    weights, else D.

    Attributes
    ----------
    gram : Tensor of shape (F, L, J + C, J + C)
        Products of columns, with the weights of entries.
    cross : Tensor of shape (D, L, J + C)
        Products with residuals.
    squares : Tensor of shape (D,)
        Squares of residuals, of all levels.
    n_entries : Tensor of shape (F,)
    """

    gram: Tensor
    cross: Tensor
    squares: Tensor
    n_entries: Tensor

    def __add__(self, other: LevelMoments) -> LevelMoments:
        return LevelMoments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.squares + other.squares,
            self.n_entries + other.n_entries,
        )

    @classmethod
    def of_rows(
        cls, columns: Tensor, weights: Tensor, scores: Tensor, level: Tensor, n_levels: int, counts: Tensor
    ) -> LevelMoments:
        """Sums over some rows, of which each counts as often as ``counts`` (B,) say.

        Parameters
        ----------
        columns : Tensor of shape (B, J + C)
        weights : Tensor of shape (B, F)
            Information of entries; zero where they are missing.
        scores : Tensor of shape (B, D)
            Residuals times weights.
        level : Tensor of shape (B,)
            Numbers of levels.
        n_levels : int
        counts : Tensor of shape (B,)
        """
        n_columns = columns.shape[1]
        products = (columns[:, :, None] * columns[:, None]).flatten(1)
        repeated = counts[:, None]
        gram, cross = [], []
        for number in range(n_levels):
            own = level == number
            gram.append((repeated[own] * weights[own]).T @ products[own])
            cross.append((repeated[own] * scores[own]).T @ columns[own])
        tiny = torch.finfo(weights.dtype).tiny
        squares = scores.square() / weights.clamp(min=tiny)
        return cls(
            torch.stack(gram, 1).unflatten(2, (n_columns, n_columns)),
            torch.stack(cross, 1),
            (repeated * squares).sum(0),
            (repeated * (weights > 0)).sum(0),
        )


def hats(points: Tensor, knots: Tensor) -> Tensor:
    """Piecewise linear functions at points (P,), each 1 at one of J knots, and straight beyond the last: (P, J).

    A curve with values v (J,) at the knots is ``hats(points, knots) @ v``.
    """
    n_knots = len(knots)
    if n_knots == 1:
        return torch.ones_like(points)[:, None]
    left = (torch.searchsorted(knots, points, right=True) - 1).clamp(0, n_knots - 2)
    share = (points - knots[left]) / (knots[left + 1] - knots[left])
    found = points.new_zeros(len(points), n_knots)
    rows = torch.arange(len(points), device=points.device)
    found[rows, left] = 1 - share
    found[rows, left + 1] = share
    return found


def deviation_kernel(points: Tensor, knots: Tensor) -> Tensor:
    """Covariance of deviations of amplitude 1 between points (P,) and knots (J,): (P, J)."""
    together = torch.cat([points, knots])
    return torch.stack([kernel(together, length) for length in LENGTHS]).mean(0)[: len(points), len(points) :]


def deviation_roots(knots: Tensor) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues (r,) and eigenvectors (J, r) of the covariance of deviations at the knots (J,)."""
    values, vectors = torch.linalg.eigh(deviation_kernel(knots, knots))
    kept = values > _LEAST_SHARE * values.sum()
    return values[kept], vectors[:, kept]


class LevelDifferences:
    """How the curves of D features differ between L levels.

    Parameters
    ----------
    moments : LevelMoments
    knots : Tensor of shape (J,)
    """

    def __init__(self, moments: LevelMoments, knots: Tensor):
        self._variances, self._functions = deviation_roots(knots)
        self._root = root = self._functions * self._variances.sqrt()
        n_knots, (n_patterns, n_levels) = len(knots), moments.gram.shape[:2]
        self._gram = moments.gram.sum(1)
        inverse, rank = _pseudo_inverse(self._gram)
        common = moments.cross.sum(1)  # (D, J + C)
        #: what the common curve and constants lack of the best ones, (D, J + C)
        self.null_step = (inverse @ common[..., None])[..., 0]
        self._residual = (moments.squares - (common * self.null_step).sum(1)).clamp(min=0)  # S, (D,)
        self._degrees = (moments.n_entries - rank).clamp(min=0)  # nu, (F,)
        # Deviations of each level, (F, L r, ...), less what the common curve and constants explain of them.
        self._with_columns = with_columns = (root.T @ moments.gram[:, :, :n_knots]).flatten(1, 2)  # (F, L r, J + C)
        within = root.T @ moments.gram[:, :, :n_knots, :n_knots] @ root  # (F, L, r, r)
        blocks = torch.stack([torch.block_diag(*within[pattern]) for pattern in range(n_patterns)])
        information = blocks - with_columns @ inverse @ with_columns.mT
        score = (moments.cross[:, :, :n_knots] @ root).flatten(1)  # (D, L r)
        score = score - (with_columns @ self.null_step[..., None])[..., 0]
        values, self._vectors = torch.linalg.eigh((information + information.mT) / 2)
        scale = blocks.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)
        self._told = values > _ROUNDING * scale
        #: eigenvalues m_s of what deviations can explain, (F, L r)
        self.values = torch.where(self._told, values, 0.0)
        self._rotated = torch.where(self._told, (score[:, None] @ self._vectors)[:, 0], 0.0)  # (D, L r)
        self._squares = self._rotated.square() / torch.where(self._told, values, 1.0)  # w_s^2, (D, L r)
        self._n_levels = n_levels

    @cached_property
    def amplitude(self) -> Tensor:
        """Amplitude for which the test is made, (F,)."""
        low = torch.full_like(self.values[:, 0], math.log(torch.finfo(self.values.dtype).tiny) / 2)
        high = -low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            explained = middle.exp()[:, None] * self.values
            nats = 0.5 * (explained - explained.log1p()).sum(1)
            low, high = torch.where(nats < _DETECTABLE, middle, low), torch.where(nats < _DETECTABLE, high, middle)
        return low.exp()

    def _log_ratio(self, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Twice the log likelihood ratio of deviations of an amplitude (F,); and Q / S: (D,) each."""
        explained = amplitude[:, None] * self.values
        least = torch.finfo(explained.dtype).tiny
        share = (self._squares * (explained / (1 + explained))).sum(1) / self._residual.clamp(min=least)
        share = share.clamp(max=1 - torch.finfo(explained.dtype).eps)
        return -self._degrees * torch.log1p(-share) - explained.log1p().sum(1), share

    @property
    def statistic(self) -> Tensor:
        """Twice the log of the restricted likelihood ratio, (D,). Below zero where there is rather no difference."""
        return self._log_ratio(self.amplitude)[0]

    @property
    def p_value(self) -> Tensor:
        """Probability of a statistic as large as this or larger, if curves differ by constants at the most: (D,)."""
        explained = self.amplitude[:, None] * self.values
        _, share = self._log_ratio(self.amplitude)
        n_told = self._told.sum(1)
        rest = (self._degrees - n_told).clamp(min=0)  # residual degrees of freedom that no deviation explains
        weights = torch.cat([explained / (1 + explained) - share[:, None], -share[:, None]], 1)
        degrees = torch.cat([self._told.to(weights), rest[:, None]], 1).expand_as(weights)
        p_value = chi_squares_above_zero(weights, degrees)
        return torch.where((rest > 0) & (n_told > 0) & (self._residual > 0), p_value, 1.0)

    def deviations(self, columns: slice) -> Tensor:
        """Expected deviations of every level: (D, L, J). They are weights of :func:`deviation_kernel`.

        They are averaged over amplitudes, as probable as the restricted likelihood makes them, of which zero is one. A
        common curve and constants that suit them best are taken away, so they come beside those of a model without
        deviations. ``columns`` of the design say of which level a row is: one column for each level but the first.
        """
        amplitudes = torch.stack([self.amplitude * 2.0**octave for octave in _OCTAVES])  # (A, F)
        ratios = torch.stack([self._log_ratio(amplitude)[0] / 2 for amplitude in amplitudes])  # (A, D)
        weights = torch.cat([ratios, torch.zeros_like(ratios[:1])]).softmax(0)[:-1]
        gains = amplitudes[..., None] / (1 + amplitudes[..., None] * self.values)  # (A, F, L r)
        shrunk = (weights[..., None] * gains).sum(0) * self._rotated
        coefficients = (self._vectors @ shrunk[..., None])[..., 0]  # (D, L r)
        curve, constants = self._in_common(coefficients)
        constants = torch.cat([torch.zeros_like(constants[:, :1]), constants[:, columns]], 1)  # (D, L)
        own = coefficients.unflatten(1, (self._n_levels, -1)) @ self._root.T
        at_knots = own - curve[:, None] - constants[..., None]
        return at_knots @ (self._functions / self._variances) @ self._functions.T

    def _in_common(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """What a common curve and constants can say of deviations (D, L r): at the knots (D, J), and (D, C).

        The curve is smooth, as the one is that it would be part of.
        """
        n_knots, n_functions = self._root.shape
        n_covariates = self._gram.shape[1] - n_knots
        of_curve = torch.cat([self._root, torch.ones_like(self._root[:, :1])], 1)  # with a level of any height
        to_functions = torch.block_diag(of_curve, torch.eye(n_covariates).to(self._root))
        gram = to_functions.T @ self._gram @ to_functions  # (F, r + 1 + C, r + 1 + C)
        ridge = torch.zeros_like(gram[:, 0])
        ridge[:, :n_functions] = 1 / self.amplitude[:, None]
        said = (to_functions.T @ (self._with_columns.mT @ coefficients[..., None]))[..., 0]  # (D, r + 1 + C)
        inverse, _ = _pseudo_inverse(gram + torch.diag_embed(ridge))
        found = (inverse @ said[..., None])[..., 0]
        return found[:, : n_functions + 1] @ of_curve.T, found[:, n_functions + 1 :]


def _pseudo_inverse(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-inverses of matrices (F, J, J), their columns on one scale first, and their ranks: (F,)."""
    scale = gram.diagonal(dim1=1, dim2=2).clamp(min=torch.finfo(gram.dtype).tiny).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, :, None] * gram * scale[:, None])
    told = values > _ROUNDING * values[:, -1:]
    inverse = torch.where(told, 1 / torch.where(told, values, 1.0), 0.0)
    return scale[:, :, None] * ((vectors * inverse[:, None]) @ vectors.mT) * scale[:, None], told.sum(1)


def chi_squares_above_zero(weights: Tensor, degrees: Tensor) -> Tensor:
    """Probability that a weighted sum of independent chi-squares is above zero, by saddlepoint approximation.

    Its relative error is small however small the probability is.

    Parameters
    ----------
    weights : Tensor of shape (D, S)
    degrees : Tensor of shape (D, S)
        Degrees of freedom; zero leaves a term out.

    Returns
    -------
    probability : Tensor of shape (D,)
    """
    weights = torch.where(degrees > 0, weights, 0.0)
    highest, lowest = weights.amax(1), weights.amin(1)
    tiny = torch.finfo(weights.dtype).tiny
    # The saddlepoint t is where the slope of the cumulant generating function is zero, between its poles.
    upper, lower = 0.5 / highest.clamp(min=tiny), 0.5 / lowest.clamp(max=-tiny)
    for _ in range(_BISECTIONS):
        t = (lower + upper) / 2
        slope = (degrees * weights / (1 - 2 * t[:, None] * weights)).sum(1)
        lower, upper = torch.where(slope < 0, t, lower), torch.where(slope < 0, upper, t)
    t = (lower + upper) / 2
    stretch = 1 - 2 * t[:, None] * weights
    cumulant = -0.5 * (degrees * stretch.log()).sum(1)
    ratio = weights / stretch
    second, third = 2 * (degrees * ratio**2).sum(1), 8 * (degrees * ratio**3).sum(1)
    w = t.sign() * (-2 * cumulant).clamp(min=0).sqrt()
    v = t * second.sqrt()
    near = w.abs() < 1e-4  # the mean is at zero, and the formula 0 / 0
    safe_w, safe_v = torch.where(near, 1.0, w), torch.where(near, 1.0, v)
    bound = torch.where(near, third / (6 * second**1.5), w + (safe_v / safe_w).log() / safe_w)
    found = torch.special.log_ndtr(-bound).exp()  # ndtr itself rounds to zero early
    found = torch.where(highest <= 0, 0.0, found)
    return torch.where(lowest >= 0, 1.0, found)
