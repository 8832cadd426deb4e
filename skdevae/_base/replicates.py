"""Replicates: fits of one estimator to resampled samples, and how they are made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed
from torch import Tensor

from .._sklearn import without_callbacks
from .._typing import TableLike
from .._warnings import warn_user
from ..inference import PosteriorFields
from ..nn.models import ExactModel
from ..nn.row_context import EMPTY
from ..table.outliers import NO_OUTLIERS, find_outliers
from ..table.precision import training_dtype
from ..table.table import Table
from ..training.device import resolve_device
from ..training.exact import grid_of
from ..training.progress import counted, quietly
from ..training.replicates import FittedReplicates, fit_replicates
from ..training.threads import fitting_threads
from .fitting import LatentVariableModel
from .own_settings import UnderOwnSettings

#: share of the replicates that may end before they have converged without a word
_TOLERATED_SHARE = 0.05


class Replicates(Sequence[LatentVariableModel], UnderOwnSettings):
    """Fits of one estimator to resampled samples: a sequence of R fitted estimators whose axes point the same way.

    Use :func:`~skdevae.inspection.bootstrap` to make them.

    Attributes
    ----------
    estimator : estimator
        The fit that was repeated.
    weights : ndarray of shape (n_replicates, n_samples)
        How often each sample counted.
    positions : ndarray of shape (n_replicates, n_samples)
        Posterior mean of every sample's latent under every replicate.
    """

    def __init__(self, estimator: LatentVariableModel, weights: np.ndarray, positions: np.ndarray):
        self.estimator = estimator
        self.weights = weights
        self.positions = positions

    def __repr__(self) -> str:
        return f"<{len(self)} replicates of {type(self.estimator).__name__}>"

    def __len__(self) -> int:
        return len(self.weights)

    @overload
    def __getitem__(self, number: int) -> LatentVariableModel: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[LatentVariableModel]: ...

    def __getitem__(self, number: int | slice) -> LatentVariableModel | Sequence[LatentVariableModel]:
        if isinstance(number, slice):
            return [self._replicate(position) for position in range(len(self))[number]]
        return self._replicate(range(len(self))[number])

    @abstractmethod
    def _replicate(self, number: int) -> LatentVariableModel:
        """One of the fitted estimators."""

    @property
    @abstractmethod
    def is_judged(self) -> bool:
        """Whether every replicate found out anew which cluster each feature belongs to."""

    @abstractmethod
    def _averaged_posterior(self, X: TableLike, credible_level: float, **facts: Any) -> PosteriorFields:
        """The average over replicates of the posterior of every row's latent."""

    @abstractmethod
    def trajectories(self, z: ArrayLike) -> np.ndarray:
        """Expected value of every feature along the latent under every replicate.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_replicates, n_points)
            Positions, the same for all replicates or each replicate's own.

        Returns
        -------
        curves : ndarray of shape (n_replicates, n_points, n_features)
            As the estimators' ``trajectories`` give them, for average covariates.
        """


def check_estimator(replicates: Replicates, estimator: Any) -> None:
    """Raise a ValueError unless it is this estimator's fit that was repeated."""
    if replicates.estimator is not estimator:
        raise ValueError(
            "replicates were made of another estimator: make them of this one, with "
            "skdevae.inspection.bootstrap(estimator, X_train)."
        )


class Refits(Replicates):
    """Replicates that were fitted one after another, each from the start.

    Parameters
    ----------
    estimator, weights, positions
        See :class:`Replicates`.
    fits : list of estimators
        R fitted estimators.
    """

    def __init__(
        self,
        estimator: LatentVariableModel,
        weights: np.ndarray,
        positions: np.ndarray,
        fits: list[LatentVariableModel],
    ):
        super().__init__(estimator, weights, positions)
        self._fits = fits

    def _replicate(self, number: int) -> LatentVariableModel:
        return self._fits[number]

    @property
    def is_judged(self) -> bool:
        return True

    def _averaged_posterior(self, X: TableLike, credible_level: float, **facts: Any) -> PosteriorFields:
        queries = (fit._for_inference(X, **facts) for fit in self._fits)
        fields = [query.inference.posterior(query.source) for query in queries]
        means, sds = torch.stack([of_fit.mean for of_fit in fields]), torch.stack([of_fit.sd for of_fit in fields])
        return PosteriorFields.average(means, sds, credible_level)

    def trajectories(self, z: ArrayLike) -> np.ndarray:
        own = _own_positions(z, len(self))
        return np.stack([fit.trajectories(at) for fit, at in zip(self._fits, own, strict=True)])


class SideBySide(Replicates):
    """Replicates that were fitted side by side, from where the fit ended.

    Parameters
    ----------
    estimator, weights, positions
        See :class:`Replicates`.
    fitted : FittedReplicates
    """

    def __init__(
        self,
        estimator: LatentVariableModel,
        weights: np.ndarray,
        positions: np.ndarray,
        fitted: FittedReplicates,
    ):
        super().__init__(estimator, weights, positions)
        self._fitted = fitted

    def _replicate(self, number: int) -> LatentVariableModel:
        return self.estimator._with_module(self._fitted.model(number), self.positions[number])

    @property
    def is_judged(self) -> bool:
        return self._fitted.logits is not None

    def _averaged_posterior(self, X: TableLike, credible_level: float, **facts: Any) -> PosteriorFields:
        return self._fitted.posterior(self.estimator._for_inference(X, **facts).source, credible_level)

    def trajectories(self, z: ArrayLike) -> np.ndarray:
        own = torch.from_numpy(_own_positions(z, len(self))).to(self._fitted.parameters.device)
        fitted, reader = self._fitted, self.estimator._reader_

        def expected(model: ExactModel, at: Tensor) -> Tensor:
            return model.predictive_mean(EMPTY, at[:, None])

        with torch.no_grad():
            values = fitted.models.double().ask(expected, fitted.parameters.double(), own, logits=fitted.logits)
        return np.stack([reader.to_user(curves) for curves in values.cpu().numpy()])


def _own_positions(z: ArrayLike, n_replicates: int) -> np.ndarray:
    """Positions of every replicate's own, (R, P), from one set of them or from R."""
    positions = np.asarray(z, dtype=np.float64)
    if positions.ndim == 1:
        positions = np.broadcast_to(positions, (n_replicates, len(positions)))
    if positions.ndim != 2 or len(positions) != n_replicates:
        raise ValueError(
            f"z has shape {np.shape(z)}: give (n_points,), or (n_replicates, n_points) for {n_replicates} replicates."
        )
    return np.array(positions)


def bootstrap_weights(
    n_samples: int,
    n_replicates: int,
    random_state: np.random.RandomState,
    *,
    sample_weight: np.ndarray,
    groups: ArrayLike | None = None,
) -> np.ndarray:
    """Weights of the Bayesian bootstrap (Rubin, 1981): (R, N), with the sum of ``sample_weight`` (N,) in every row.

    They are exponential: one for each sample, or for each of the ``groups`` (N,) that samples belong to.
    """
    labels = np.arange(n_samples) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(labels) != n_samples:
        raise ValueError(f"groups has {len(labels)} entries, but X has {n_samples} rows. Give one group for each row.")
    n_groups = int(labels.max()) + 1
    if n_samples < 2:
        raise ValueError("X has one row: there is nothing to resample. Give the table of the fit.")
    if n_groups < 2:
        raise ValueError(
            "groups names one group only: there is nothing to resample. Give groups=None to resample rows."
        )
    drawn = random_state.standard_exponential((n_replicates, n_groups))[:, labels] * sample_weight
    return drawn * (sample_weight.sum() / drawn.sum(1, keepdims=True))


def refits(
    estimator: LatentVariableModel, X: TableLike, weights: np.ndarray, n_jobs: int | None, **facts: Any
) -> Replicates:
    """Fit an estimator from the start for each of R sets of weights (R, N). Axes point as that of the fit.

    ``facts`` are those of the rows of X, and the axis that they were given, if they were.
    """
    of_rows = {name: values for name, values in facts.items() if name not in ("axis", "axis_sd")}
    if "axis" not in facts:
        facts = {**facts, "orientation": np.asarray(estimator.transform(X, **of_rows))[:, 0]}

    def refit(weight: np.ndarray) -> LatentVariableModel:
        with quietly():
            return cast(Any, without_callbacks(clone(estimator))).fit(X, sample_weight=weight, **facts)

    fitted = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(refit)(weight) for weight in weights)
    fits = list(counted(fitted, "replicate", len(weights), bool(estimator.verbose)))
    positions = np.stack([np.asarray(fit.transform(X, **of_rows))[:, 0] for fit in fits])
    if "axis" in facts:
        known = np.stack([cast(Any, fit).axis_map_.to_latent(facts["axis"]) for fit in fits])
        positions = np.where(np.isnan(known), positions, known)
    return Refits(estimator, weights, positions, fits)


def why_not_side_by_side(estimator: LatentVariableModel) -> str | None:
    """Why replicates of a fit cannot be fitted side by side, as the end of a sentence; None where they can."""
    module = estimator.module_
    if not isinstance(module, ExactModel):
        return "its latents come from an encoder"
    if module.n_components != 1:
        return f"its latent has {module.n_components} components"
    if module.effects is not None:
        return "it has effects of covariates"
    return None


def side_by_side(estimator: LatentVariableModel, table: Table, weights: np.ndarray, *, judge: bool) -> Replicates:
    """Fit an estimator again for each of R sets of weights (R, N), from where its fit has ended.

    The rows of ``table`` have the weights and the known positions of that fit.
    """
    of_fit = cast(np.ndarray, table.context.weight)
    table, outliers = _as_trained(table, of_fit)
    like = torch.zeros(
        (), dtype=training_dtype(table.values, estimator._is_count_model()), device=resolve_device(estimator.device)
    )
    source = table.source(like)
    counted = np.setdiff1d(np.nonzero(of_fit)[0], outliers)
    module = cast(ExactModel, deepcopy(estimator.module_).to(like))
    with fitting_threads(source.is_large):
        n_points = len(grid_of(source, estimator._settings()).axis)
        fitted = fit_replicates(module, source.take(counted), weights[:, counted], n_points, judge=judge)
        positions = fitted.positions(source)
    late = float((~fitted.converged).double().mean())
    if late > _TOLERATED_SHARE:
        warn_user(
            f"{late:.0%} of the replicates had not converged when their search ended: intervals are rough. They start "
            "where the fit ended, and go on past it if it stopped before its optimum. method='refit' fits each "
            "replicate from the start, and lets it stop as the fit did.",
            ConvergenceWarning,
        )
    return SideBySide(estimator, weights, positions, fitted)


def _as_trained(table: Table, weights: np.ndarray) -> tuple[Table, np.ndarray]:
    """A table as training reads it, and the rows that training leaves out: outliers are found by the rule of a fit."""
    columns = table.reader.columns
    outliers = NO_OUTLIERS
    if columns.kind != "binary" and table.reader.sizes is None:
        outliers = find_outliers(table.values, columns.kind == "counts", columns.kept, weights)
    return replace(table, bounds=outliers.bounds), outliers.rows
