"""Curves of levels: how curves differ between the levels of a categorical covariate, as users see it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._typing import CovariatesLike
from .._warnings import warn_user
from ..inference.level_curves import compare_levels
from ..nn.level_curves import deviation_kernel
from ..nn.row_context import RowContext
from ..table.covariates import CategoricalCovariate, Covariates
from ..table.source import RowSource
from ..training.exact import grid_of
from .covariate_effects import CovariateEffectsMixin

#: what stands for the only categorical covariate
_ONLY = "curves"
#: distance of two levels' distributions along the axis from which on little of it is shared: half of the most there is
_FAR_APART = 0.5


class LevelCurvesMixin(CovariateEffectsMixin):
    """Base of estimators that compare curves between the levels of a categorical covariate."""

    interactions: str | None

    #: Fields of ``LevelCurves``, in the model's units, by name, and ``columns``: where those of the design start and
    #: stop that say of which level a row is. None without interactions.
    _level_curves_: dict[str, Any] | None

    _interaction_constraints: ClassVar[dict] = {"interactions": [None, str]}

    @property
    def interaction_tests_(self) -> pd.DataFrame:
        """Whether the curve of each feature differs between the levels of a covariate.

        The ``statistic`` is twice the log of a restricted likelihood ratio: of smooth deviations, of an amplitude that
        the table can just tell from none, to a common curve of any shape. It is negative where the latter is likelier.
        ``p_value`` follows from its distribution if the common curve is true, which is a sum of weighted chi-squares.
        ``adjusted_p_value`` is Benjamini and Hochberg's, for the false discovery rate. Features that differ bend the
        axis on which all are compared. So where many differ, more are found than differ. There only with
        ``interactions``.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(80, n_increasing=4, n_decreasing=4, n_transient=0, random_state=0).data
        >>> sex = np.tile(["f", "m"], 40)
        >>> model = DeVAETransformer(interactions="curves", max_epochs=10, random_state=0).fit(X, covariates=sex)
        >>> list(model.interaction_tests_)
        ['statistic', 'p_value', 'adjusted_p_value']
        """
        check_is_fitted(self, "module_")
        found = getattr(self, "_level_curves_", None)  # older files know of none
        if found is None:
            raise AttributeError("The model was fitted without interactions, so curves were not compared.")
        columns, names = self._reader_.columns, self._feature_names()
        statistic, p_value = (columns.spread(found[name], np.nan) for name in ("statistic", "p_value"))
        adjusted = np.full_like(p_value, np.nan)
        known = ~np.isnan(p_value)
        adjusted[known] = false_discovery_control(p_value[known])
        return pd.DataFrame(
            {"statistic": statistic, "p_value": p_value, "adjusted_p_value": adjusted},
            index=[f"x{number}" for number in range(len(statistic))] if names is None else names,
        )

    def _learn_covariates(
        self, of_columns: Any, given: CovariatesLike, n_rows: int, weights: np.ndarray | None = None
    ) -> tuple[Covariates | None, np.ndarray | None]:
        learned = super()._learn_covariates(of_columns, given, n_rows, weights)
        if self.interactions is not None:  # before anything is trained
            self._check_can_compare()
            _compared(learned[0], self.interactions)
        return learned

    def _check_can_compare(self) -> None:
        if self._resolved_inference() != "exact" or self._settings().n_components > 1:
            raise ValueError(
                f"interactions={self.interactions!r} compares curves along one axis, on which exact inference places "
                "the samples. Choose inference='exact' with one component, or interactions=None."
            )

    def _store_effects(self, source: RowSource) -> None:
        super()._store_effects(source)
        self._level_curves_ = None
        if self.interactions is None:
            return
        compared, columns = _compared(self._reader_.covariates, self.interactions)
        found = compare_levels(self._float64_module(), source, grid_of(source, self._settings()), columns)
        self._level_curves_ = {
            "columns": (columns.start, columns.stop),
            **{name: values.cpu().numpy() for name, values in vars(found).items()},
        }
        if source.context.axis is None:
            _warn_of_levels_apart(compared, self._level_curves_["apart"])

    def _deviations_at(self, positions: Tensor, context: RowContext[np.ndarray]) -> Tensor | None:
        found = getattr(self, "_level_curves_", None)
        if found is None or context.covariates is None:
            return None
        own = context.covariates[:, slice(*found["columns"])]
        indicators = np.column_stack([1 - own.sum(1), own])
        # Rows of no level, average ones, have the common curve.
        is_level = np.equal(own, own.round()).all(1)
        of_rows = torch.from_numpy(np.where(is_level[:, None], indicators, 0.0)).to(positions)  # (P, L)
        knots, weights = (torch.from_numpy(found[name]).to(positions) for name in ("knots", "deviations"))
        # Beyond the samples nothing is known of differences: they stay as they are at the last knot.
        within = positions[:, 0].clamp(knots[0], knots[-1])
        return torch.einsum("pl,pj,ljd->pd", of_rows, deviation_kernel(within, knots), weights)


def _warn_of_levels_apart(compared: CategoricalCovariate, apart: np.ndarray) -> None:
    """Warn where two levels lie apart, by distances (L, L): curves that differ may have parted them."""
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    if apart[i, j] > _FAR_APART:
        warn_user(
            f"Samples of {compared.levels[i]!r} and {compared.levels[j]!r} lie apart on the axis (their cumulative "
            f"distributions differ by {apart[i, j]:.2f}), and curves are compared only where both have samples. Either "
            "these levels are at different stages, or so many curves differ that the axis leads through one level "
            "after the other. Then interaction_tests_ miss what differs: compare with models of each level alone, or "
            "give axis=... to fit."
        )


def _compared(covariates: Covariates | None, interactions: str) -> tuple[CategoricalCovariate, slice]:
    """The covariate whose levels ``interactions`` compares, and the columns of the design that belong to it."""
    known: dict[str, tuple[CategoricalCovariate, slice]] = {}
    start = 0
    for part in () if covariates is None else covariates.parts:
        if isinstance(part, CategoricalCovariate) and part.columns:
            known[part.name] = part, slice(start, start + len(part.columns))
        start += len(part.columns)
    these = f"These are {', '.join(map(repr, known))}" if known else "There is none"
    if interactions in known:
        return known[interactions]
    if interactions != _ONLY:
        raise ValueError(
            f"interactions={interactions!r} is not the name of a categorical covariate with two levels or more. "
            f"{these}. A column of numbers is categorical if covariates={{{interactions!r}: 'categorical'}} says so."
        )
    if len(known) != 1:
        raise ValueError(
            f"interactions={_ONLY!r} compares curves between the levels of the only categorical covariate with two "
            f"levels or more. {these}. "
            + ("Name one of them." if known else "Pass covariates=..., or choose interactions=None.")
        )
    return next(iter(known.values()))
