"""A given axis: positions of samples that a user knows, and the monotone map between them and the latent.

The latent is standard normal, and known only up to a monotone map. So a given position counts by its rank: its place on
the latent is the normal score of its mid-rank among all that are given.

A position with an error is a measurement. If the errors make up a share s^2 of the variance of what is measured, the
latent of a row measured at the normal score r has the mean ``(1 - s^2)^(1/2) r`` and the variance s^2, as if both were
bivariate normal. Without error it is r. Where the error is as large as the spread of all positions, nothing is known
but the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from .._warnings import warn_user
from .components import normal_scores
from .validation import check_real, named_entries

#: fewest different positions along which a rise, a fall and what comes and goes can be told apart
_FEWEST_POSITIONS = 3
#: penalties of the regression that predicts positions which are not given, of which one is chosen by leaving rows out
_PENALTIES = np.geomspace(1e-2, 1e4, 13)


@dataclass(frozen=True)
class GivenAxis:
    """Positions that are given with the samples of a table, in the user's units.

    Attributes
    ----------
    position : ndarray of shape (N,)
        NaN where it is not known.
    sd : ndarray of shape (N,)
        Standard deviation of its error; 0 where it is exactly known.
    """

    position: np.ndarray
    sd: np.ndarray

    @classmethod
    def checked(cls, axis: ArrayLike | None, axis_sd: ArrayLike | None, weights: np.ndarray) -> GivenAxis | None:
        """What a user has given for samples of weights (N,); None where nothing is known of any position."""
        if axis is None:
            if axis_sd is not None:
                raise ValueError("axis_sd is given without axis: pass the positions that it is the error of.")
            return None
        position = _one_a_sample("axis", axis, len(weights))
        infinite = np.nonzero(np.isinf(position))[0]
        if len(infinite):
            raise ValueError(
                f"axis is {position[infinite[0]]} in row {infinite[0]}: give a finite position, or NaN where it is not "
                "known."
            )
        sd = np.zeros(len(position))
        if axis_sd is not None:
            every = np.full(len(position), axis_sd) if np.ndim(axis_sd) == 0 else axis_sd
            sd = _one_a_sample("axis_sd", every, len(weights))
        wrong = np.nonzero(~(sd >= 0) & ~np.isnan(position))[0]
        if len(wrong):
            raise ValueError(
                f"axis_sd is {sd[wrong[0]]} in row {wrong[0]}: give a standard deviation, or 0 where the position is "
                "exactly known."
            )
        is_known = ~np.isnan(position) & (weights > 0)
        if not is_known.any():
            warn_user("axis has no known value, so the positions of all samples are inferred, as without axis.")
            return None
        n_distinct = len(np.unique(position[is_known]))
        is_exact = is_known[weights > 0].all() and not sd[is_known].any()
        if is_exact and 1 < n_distinct < _FEWEST_POSITIONS:
            warn_user(
                f"axis has {n_distinct} different values. What features do between them is not known: a rise cannot be "
                "told from what comes and goes. Give more positions, or NaN for samples that may lie between."
            )
        return cls(np.where(is_known, position, np.nan), np.where(is_known, sd, np.nan))

    def on_latent(self, weights: np.ndarray) -> tuple[AxisMap | None, np.ndarray, np.ndarray]:
        """The map to the latent that samples of weights (N,) teach, and what is known of their own latents beforehand.

        The latter are means and standard deviations (N,), NaN where nothing is known. The map is None where nothing is
        known of any.
        """
        latent = AxisMap.learn(self.position, weights)
        mean, sd = self.by(latent)
        if np.isnan(sd).all():
            warn_user(
                "axis_sd is as large as the spread of axis, so the positions of all samples are inferred, as without "
                "axis."
            )
            return None, mean, sd
        return latent, mean, sd

    def by(self, latent: AxisMap) -> tuple[np.ndarray, np.ndarray]:
        """Means and sds (N,) of the samples' latents beforehand, by a map to the latent; NaN where nothing is known."""
        score = latent.to_latent(self.position)
        share = (latent.to_latent(self.position + self.sd) - latent.to_latent(self.position - self.sd)) / 2
        share = np.where(share < 1, share, np.nan)
        return np.sqrt(1 - share**2) * score, share


@dataclass(frozen=True)
class AxisMap:
    """The monotone map between given positions and the latent.

    Attributes
    ----------
    axis : ndarray of shape (n_positions,)
        The different positions that were given, ascending.
    latent : ndarray of shape (n_positions,)
        Their places on the latent.
    """

    axis: np.ndarray
    latent: np.ndarray

    @classmethod
    def learn(cls, position: np.ndarray, weights: np.ndarray) -> AxisMap:
        """The map to normal scores of mid-ranks, for positions (N,) of rows with weights (N,); NaN are left out."""
        known = ~np.isnan(position)
        axis, first = np.unique(position[known], return_index=True)
        if len(axis) < 2:
            known_value = f" but {axis[0]:g}" if len(axis) else ""
            raise ValueError(
                f"axis has no value{known_value} in the rows that training uses, so there is nothing along which "
                "anything could change. Give positions with two different values at least."
            )
        return cls(axis, normal_scores(position[known], weights[known])[first])

    def to_latent(self, axis: ArrayLike) -> np.ndarray:
        """Positions on the latent of positions in the units of ``axis``.

        Parameters
        ----------
        axis : array-like
            Positions in the units in which they were given. Beyond these, the map goes on straight.

        Returns
        -------
        latent : ndarray of the same shape
            Positions z.
        """
        return _interpolated(np.asarray(axis, dtype=np.float64), self.axis, self.latent)

    def to_axis(self, latent: ArrayLike) -> np.ndarray:
        """Positions in the units of ``axis`` of positions on the latent: the inverse of :meth:`to_latent`.

        Parameters
        ----------
        latent : array-like
            Positions z.

        Returns
        -------
        axis : ndarray of the same shape
            Positions in the units in which they were given.
        """
        return _interpolated(np.asarray(latent, dtype=np.float64), self.latent, self.axis)


def completed(mean: np.ndarray, sd: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A guess of the latents of rows with weights (N,), of means and sds (N,) that are known beforehand or are NaN.

    The less is known, the more the guess is a prediction from principal components (N, C).
    """
    share = np.where(np.isnan(sd), 1.0, sd**2)  # of the variance that is not known
    if not share.any():
        return mean
    told = weights * (1 - share) > 0
    model = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
    model.fit(scores[told], mean[told], ridgecv__sample_weight=(weights * (1 - share))[told])
    predicted = normal_scores(model.predict(scores), weights)
    return (1 - share) * np.nan_to_num(mean) + share * predicted


def components_beside(axis: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The leading components (N, C) of what a line along an axis (N,) leaves of scores (N, C)."""
    rest = scores - LinearRegression().fit(axis[:, None], scores, weights).predict(axis[:, None])
    left, lengths, _ = np.linalg.svd(np.sqrt(weights)[:, None] * rest, full_matrices=False)
    return left * lengths / np.sqrt(weights)[:, None]


def _interpolated(at: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The line through points (x, y), beyond which it goes on with its slope from end to end."""
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    beyond = np.minimum(at - x[0], 0) + np.maximum(at - x[-1], 0)
    return np.interp(at, x, y) + slope * beyond


def _one_a_sample(name: str, values: Any, n_samples: int) -> np.ndarray:
    """Numbers that are given by sample, (N,), of which some may be NaN or infinite."""
    check_real(name, getattr(values, "dtype", np.dtype(float)))
    with named_entries(values, name):
        checked = check_array(values, ensure_2d=False, ensure_all_finite=False, dtype=np.float64, input_name=name)
    if checked.ndim == 2 and checked.shape[1] == 1:
        checked = checked[:, 0]
    if checked.shape != (n_samples,):
        what = f"{len(checked)} values" if checked.ndim == 1 else f"the shape {checked.shape}"
        raise ValueError(f"{name} has {what}, but X has {n_samples} samples: give one value a sample.")
    return checked
