"""Covariate effects: what covariates add to every curve, as users see it."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from ..inference.base import share_a_grid
from ..inference.effects import effect_covariances
from ..nn.covariate_effects import CovariateEffects
from ..nn.models import GenerativeModel
from ..table.source import RowSource
from ..training.exact import grid_of
from .fitting import LatentVariableModel


class CovariateEffectsMixin(LatentVariableModel):
    """Base of estimators in which covariates have additive effects on the curves of features."""

    _has_additive_effects: ClassVar[bool] = True

    #: standard deviations of the effects' posterior, (C, D') in the model's units
    _effect_sds_: np.ndarray | None

    @property
    def covariate_effects_(self) -> pd.DataFrame:
        """What each covariate adds to the curve of each feature.

        They are in the units of X for ``likelihood="gaussian"``, on the log scale for counts, on the logit scale for
        ``"bernoulli"``. Columns are those of the covariates' design: one for a numeric covariate, per unit of it, and
        one for each level of a categorical one, against the first level. Effects have a normal prior around zero, whose
        variance is learned for each column. There only if the model has covariates.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=3, n_decreasing=2, n_transient=0, random_state=0).data
        >>> batch = np.repeat(["a", "b"], 30)
        >>> X[batch == "b", 0] += 2
        >>> model = DeVAETransformer(max_epochs=20, random_state=0).fit(X, covariates=batch)
        >>> effects = model.covariate_effects_
        >>> effects.shape
        (5, 1)
        >>> bool(effects.iloc[0, 0] > 1.5), bool(effects.iloc[1:, 0].abs().max() < 0.5)  # the first was shifted
        (True, True)
        """
        return self._by_feature(self._effects().values.detach().double().cpu().numpy())

    @property
    def covariate_standard_errors_(self) -> pd.DataFrame:
        """Standard errors of ``covariate_effects_``.

        They account for curves and latents that are estimated as well. Samples of all levels are taken to be
        distributed alike along the latent: where they are not, a part of that difference is taken for effects.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=3, n_decreasing=2, n_transient=0, random_state=0).data
        >>> batch = np.repeat(["a", "b"], 30)
        >>> X[batch == "b", 0] += 2
        >>> model = DeVAETransformer(max_epochs=20, random_state=0).fit(X, covariates=batch)
        >>> ratio = model.covariate_effects_ / model.covariate_standard_errors_
        >>> ratio.abs().iloc[:, 0].idxmax()  # the feature whose effect stands out most
        'x0'
        """
        self._effects()
        if self._effect_sds_ is None:
            raise AttributeError(
                "Effects have standard errors where the latent can be integrated on a grid: with one or two "
                "components, a likelihood that is linear in the data, and, for counts, covariates of few values. They "
                "are found from the rows of one table, so a stream (partial_fit) has none after its first table."
            )
        return self._by_feature(self._effect_sds_)

    def _effects(self) -> CovariateEffects:
        check_is_fitted(self, "module_")
        if self.module_.effects is None:
            raise AttributeError("The model was fitted without covariates, so they have no effects.")
        return self.module_.effects

    def _by_feature(self, values: np.ndarray) -> pd.DataFrame:
        """Numbers (C, D') in the model's units as a table (D, C), in the user's, with names."""
        reader, covariates = self._reader_, self._reader_.covariates
        assert covariates is not None  # effects are those of covariates
        by_unit = reader.columns.spread(values / covariates.scales[:, None], np.nan) * reader.units.sizes
        names = self._feature_names()
        index = [f"x{number}" for number in range(by_unit.shape[1])] if names is None else names
        return pd.DataFrame(by_unit.T, index=index, columns=covariates.columns)

    def _store_effects(self, source: RowSource) -> None:
        """Set what is read off the rows of the training table, in double precision."""
        self._effect_sds_ = None
        model: GenerativeModel = self._float64_module()
        if model.effects is None or not model.variational or not share_a_grid(model, source):
            return
        settings = self._settings()
        if settings.n_components > 2:
            return
        covariances = effect_covariances(model, model.effects, source, grid_of(source, settings))
        variances = covariances.diagonal(dim1=1, dim2=2).T
        self._effect_sds_ = cast(np.ndarray, torch.sqrt(variances).cpu().numpy())
